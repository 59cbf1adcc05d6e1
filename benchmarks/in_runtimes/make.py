"""Make the checkpoints: python make.py WORK [FAMILY ...]; what is there is left as it is.

FAMILY is a name of `small_models.FAMILIES`, `blocks`, `reference, trained`, or NAME=FOLDER for a
published model.
"""

import json
import sys
from pathlib import Path

from small_models import FAMILIES, cuts_of, save
from trained import REFERENCE, make_published, make_reference

from coterie.models.cutting.blocks import write_block_cut
from coterie.models.cutting.write import write_cut
from coterie.models.files.sources import reference_folder, resolve
from coterie.models.loaded.load import load_tokenizer

BLOCKS = {
    "attention": ({1, 4}, set()),
    "feed-forward": (set(), {2, 5}),
    "last feed-forward": (set(), {7}),
    "first attention": ({0, 4}, set()),
}
"""Blocks that a Llama loses, by name: layers without attention, layers without feed-forward."""

_TEXT = (
    "The sea was quiet that morning, and the old man sat by the window with a letter in his hand."
    " He had read it twice already. It said that the ship would come in spring, and that nobody"
    " knew who had sent it."
)


def main() -> None:
    """Every family that is asked for, whole and cut."""
    work, families = Path(sys.argv[1]), sys.argv[2:] or [*FAMILIES, "blocks", REFERENCE]
    if not (work / "asked.json").exists():
        ids = load_tokenizer(resolve("reference"))(_TEXT, add_special_tokens=False)["input_ids"]
        asked = {"prompts": [ids[:8], ids[8:20]], "new": 12, "chunks": [ids[:32]]}
        (work / "asked.json").write_text(json.dumps(asked))
    for family in families:
        name, _, folder = family.partition("=")
        if folder:
            make_published(work / name, Path(folder), _TEXT)
        elif family == REFERENCE:
            (work / family).mkdir(exist_ok=True)
            make_reference(work / family)
        else:
            _make_small(work, family)


def _make_small(work: Path, family: str) -> None:
    whole = work / family / "whole"
    if not (whole / "config.json").exists():
        save("llama" if family == "blocks" else family, whole, str(reference_folder()))
    source = resolve(str(whole))
    if family == "blocks":
        for name, (attention, mlp) in BLOCKS.items():
            if not (work / family / name).exists():
                write_block_cut(source, attention, mlp, work / family / name)
        return
    n_layers = source.config().num_hidden_layers
    for name, gone in cuts_of(family).items():
        if not (work / family / name).exists():
            kept = [layer for layer in range(n_layers) if layer not in gone]
            write_cut(source, kept, work / family / name)


if __name__ == "__main__":
    main()
