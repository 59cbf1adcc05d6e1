"""Trained models, cut, repaired and healed: the reference model, and published ones by folder."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from coterie.models.cutting.blocks import write_block_cut
from coterie.models.cutting.write import write_cut
from coterie.models.files.sources import Source, reference_folder, resolve
from coterie.models.loaded.load import load_tokenizer
from coterie.models.reference.text import Half, stdlib_documents
from coterie.models.runtimes.names import RUNTIMES
from coterie.models.runtimes.serving import serving_of

REFERENCE = "reference, trained"
"""Name of the family; a published one is named by the user."""

_GONE, _BLOCKS = (5, 6, 9), {5, 12}
"""Layers that the reference loses, and layers that lose their attention."""


def make_reference(family: Path) -> None:
    """Whole, without some attention blocks, and cut by layers, and that repaired and healed."""
    whole = family / "whole"
    if not whole.exists():
        shutil.copytree(reference_folder(), whole)
    _cut(whole, family / "cut", _GONE)
    _block_cut(whole, family / "attention")
    given = ["--teacher", str(whole), *_texts(family)]
    fitted = ["--method", "down", "--sequences", "32"]
    _coterie(family / "cut, repaired", "repair", str(family / "cut"), *given, *fitted)
    steps = ["--steps", "8", "--batch", "4"]
    _coterie(family / "cut, healed", "heal", str(family / "cut"), *given, *steps)


def make_published(family: Path, folder: Path, text: str) -> None:
    """A published model whole, with its kinds of layers in order, and with their period broken.

    Args:
        family: Folder to make.
        folder: The model.
        text: Its first tokens are continued, and its loss is told.
    """
    family.mkdir(exist_ok=True)
    whole = family / "whole"
    if not whole.exists():
        whole.symlink_to(folder.resolve(), target_is_directory=True)
    source = resolve(str(whole))
    if not (family / "asked.json").exists():
        ids = load_tokenizer(source)(text)["input_ids"]
        asked = {"prompts": [ids[:8], ids[:24]], "new": 12, "chunks": [ids[:48]]}
        (family / "asked.json").write_text(json.dumps(asked))
    config = source.config()
    n_layers = config.num_hidden_layers
    # Half a period of Gemma 3 apart, so that what slides moves.
    gone = (n_layers // 2 - 1, n_layers // 2 + 1)
    kept = [layer for layer in range(n_layers) if layer not in gone]
    near = serving_of(config, RUNTIMES, n_layers).nearest(kept)
    if near is not None and list(near) != kept:
        left = [layer for layer in range(n_layers) if layer not in near]
        _cut(whole, family / "pattern kept", left)
    _cut(whole, family / "broken", gone)
    if config.model_type == "llama":
        _block_cut(whole, family / "attention")


def _cut(whole: Path, to: Path, gone: list[int] | tuple[int, ...]) -> None:
    source = resolve(str(whole))
    if not to.exists():
        n_layers = source.config().num_hidden_layers
        write_cut(source, [layer for layer in range(n_layers) if layer not in gone], to)


def _block_cut(whole: Path, to: Path) -> None:
    source: Source = resolve(str(whole))
    if not to.exists():
        write_block_cut(source, _BLOCKS, set(), to)


def _coterie(to: Path, verb: str, folder: str, *more: str) -> None:
    """One verb of Coterie."""
    if to.exists():
        return
    words = [sys.executable, "-m", "coterie", verb, folder, "--output", str(to), *more]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{verb}: {done.stderr.strip().splitlines()[-1]}")


def _texts(family: Path) -> list[str]:
    """A little text to learn from and a little that judges."""
    words = []
    halves: tuple[tuple[Half, str], ...] = (("calibration", "--text"), ("verdict", "--held-out"))
    for half, option in halves:
        file = family / f"{half}.txt"
        if not file.exists():
            documents = [text[:2000] for _, text in stdlib_documents(half)[:80]]
            file.write_text("\n\n".join(documents), encoding="utf-8")
        words += [option, str(file)]
    return words
