"""A small model, a cut of it and texts, made once; the lines of the verbs that write a folder."""

import gc
import hashlib
import json
import math
import random
import shutil
import sqlite3
import sys
from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

from .acts import operations
from .commands import Ended, forked, run

GAME = ["--sequences", "4", "--length", "16", "--device", "cpu"]
VERBS = ("prune", "sparsify", "heal", "quantize", "compare", "cut")
# How long a run took and what it really computed may differ from run to run.
_VOLATILE = (
    *("seconds", "executed", "evaluated", "peak", "remembered", "command", "memory", "shape"),
    "player_times",
)
_OF_THIS_RUN = ("known", "head_tokens")  # what was asked of the store, what was not


@dataclass(frozen=True)
class Undisturbed:
    """A verb's run to which nothing was done: its answer, files and length, to compare with."""

    ended: Ended
    answer: object
    names: frozenset[str]
    n_bytes: int
    n_operations: int

    @property
    def n_changes(self) -> int:
        """How often it changes a path."""
        return len(self.ended.changed)


class Home:
    """Every trial works on copies of what is here."""

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        from coterie.models.cutting.write import write_cut
        from coterie.models.files.places import reference_folder
        from coterie.models.files.sources import resolve

        torch.set_num_threads(1)
        torch.manual_seed(0)
        (folder / "fonts").mkdir(mode=0o777)
        self.folder = folder
        self.model, self.cut = folder / "model", folder / "cut"
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 5}
        heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 4096}
        config = LlamaConfig(**sizes, **heads, max_position_embeddings=64)
        LlamaForCausalLM(config).save_pretrained(self.model)
        for file in reference_folder().glob("*token*"):
            shutil.copy(file, self.model)
        draw, known = random.Random(0), ["the", "of", "a", "model", "layer", "cut", "game", "value"]
        text = " ".join(f"{draw.choice(known)} {i % 97}" for i in range(2_400))
        (folder / "text.txt").write_text(text[: len(text) // 2])
        (folder / "judges.txt").write_text(text[len(text) // 2 :])
        self.cut.mkdir()
        write_cut(resolve(str(self.model)), [0, 1, 3, 4], self.cut)
        self._plain: dict[str, Undisturbed] = {}
        _read_all_modules()
        # What is there now is never collected, so that forks share it.
        gc.freeze()

    def line(self, verb: str, output: Path, model: Path | None = None) -> list[str]:
        """The command line of a verb that writes a folder.

        Args:
            verb: Its name.
            output: The folder.
            model: Another model than the one that is here.
        """
        model = self.model if model is None else model
        text, judges = str(self.folder / "text.txt"), str(self.folder / "judges.txt")
        game = [*GAME, "--calibration", text]
        cut = self.cut if model == self.model else model
        learn = ["--teacher", str(self.model), "--text", text, "--held-out", judges]
        words = {
            "prune": ["prune", str(model), "--remove", "1", "--method", "greedy", *game],
            "sparsify": ["sparsify", str(model), "--sparsity", "0.5", "--pruner", "magnitude",
                         "--allocation", "uniform", *game],
            "heal": ["heal", str(cut), *learn, "--mode", "full", "--steps", "4", "--batch",
                     "2", "--device", "cpu"],
            "quantize": ["quantize", str(model), "--held-out", judges, "--device", "cpu"],
            "compare": ["compare", str(model), "--remove", "1", "--methods", "one-shot,greedy",
                        "--seeds", "1", "--rounds", "0", *game],
            "cut": ["cut", str(model), "--layers", "1"],
        }  # fmt: skip
        return [*words[verb], "--output", str(output)]

    def plain(self, verb: str) -> Undisturbed:
        """The verb's run to which nothing was done; made when it is first asked for."""
        if verb not in self._plain:
            place = self.folder / f"plain-{verb}"
            place.mkdir()
            ended = run(self.line(verb, place / "out"), place)
            if ended.code:
                raise RuntimeError(f"{verb} fails undisturbed: {ended.said}")
            names, n_bytes = listing(place)
            found = answer(place / "out")
            shutil.rmtree(place / "out")
            (place / "store.sqlite").unlink(missing_ok=True)
            seen, modules = place / "operations", place / "modules"
            line = self.line(verb, place / "out")
            forked(lambda: _noting_modules(line, modules), place, operations(seen)).end()
            _read_modules(modules.read_text(encoding="utf-8").split())
            count = int(seen.read_text()) if seen.is_file() else 0
            self._plain[verb] = Undisturbed(ended, found, names, n_bytes, count)
            shutil.rmtree(place)
        return self._plain[verb]


def _noting_modules(line: list[str], file: Path) -> int:
    from coterie.cli import main as command

    code = command(line)
    file.write_text("\n".join(sys.modules), encoding="utf-8")
    return code


def _read_modules(names: Iterable[str]) -> None:
    """Read what a verb reads while it works, so that no fork of it has to again."""
    for name in names:
        if name not in sys.modules:
            with suppress(ImportError):
                import_module(name)
    gc.freeze()


def _read_all_modules() -> None:
    """Read every module of the package once, and what it needs, so that no fork has to."""
    import coterie

    for found in walk_packages(coterie.__path__, "coterie."):
        # A script for another Python, a file for checkpoints, the command itself.
        if not found.name.endswith(("_script", "modeling_decilm", "__main__")):
            import_module(found.name)


def answer(output: Path) -> object:
    """What a run answers: its record but for times, and its tensors in the order of their names."""
    from coterie.models.files.tensors import read_header

    for name in ("coterie.json", "comparison.json"):
        file = output / name
        record = _steady(json.loads(file.read_text())) if file.is_file() else None
        if record is not None:
            break
    tensors = {
        one.name: hashlib.sha256(file.read_bytes()[one.start : one.stop]).hexdigest()
        for file in sorted(output.glob("*.safetensors"))
        for one in read_header(file).entries
    }
    return [record, tensors]


def same(one: object, other: object) -> bool:
    """Whether two answers are equal, numbers but for what another shape of batches rounds off."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-3, abs_tol=1e-5)
    return one == other


def _steady(value: object) -> object:
    if isinstance(value, dict):
        return {
            name: _steady(part)
            for name, part in value.items()
            if name not in _OF_THIS_RUN and not any(word in name for word in _VOLATILE)
        }
    return [_steady(part) for part in value] if isinstance(value, list) else value


def listing(place: Path) -> tuple[frozenset[str], int]:
    """Every file below a folder by its name there, and their bytes."""
    files = [path for path in place.rglob("*") if not path.is_dir()]
    names = frozenset(str(path.relative_to(place)) for path in files)
    return names, sum(path.lstat().st_size for path in files)


def leftovers(place: Path) -> list[str]:
    """Working folders and files that a finished run has left, its scratch among them."""
    scratch = place / "scratch"
    left = [*place.iterdir(), *(scratch.iterdir() if scratch.is_dir() else ())]
    working = [path for path in left if path.name.startswith(".") or "partial" in path.name]
    working += [path for path in left if path.parent == scratch and path not in working]
    return [f"left {path.name}" for path in working]


def doubled(store: Path) -> list[str]:
    """Whether a store is damaged, or holds one observation twice."""
    if not store.is_file():
        return []
    # To let go of a connection is not to close it: its journal would stay beside the store.
    with closing(sqlite3.connect(store)) as db:
        whole = db.execute("PRAGMA integrity_check").fetchone()[0]
        rows, distinct = db.execute(
            "SELECT COUNT(*), COUNT(DISTINCT game || ' ' || coalition || ' ' || sequence)"
            " FROM observation"
        ).fetchone()
    return [f"store: {whole}"] * (whole != "ok") + ["stored twice"] * (rows != distinct)
