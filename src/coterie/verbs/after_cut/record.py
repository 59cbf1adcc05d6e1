"""The report of what was done to a checkpoint after its cut, beside the report of the cut."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from coterie.plain import Json
from coterie.report.card.after_cut import card_section
from coterie.report.card.prune import FIGURE, model_card
from coterie.report.schema.after_cut import AfterPart
from coterie.report.schema.record import CheckpointRecord, Record
from coterie.verbs.outputs.page import write_page
from coterie.verbs.outputs.records import read_record, write_record
from coterie.verbs.shared.licence import licence_of


@dataclass(frozen=True)
class Parts:
    """What one command did, and the whole of `coterie.json` where it stands last.

    Attributes:
        part: What this command did.
        record: The record of the cut, where there is one, with everything done after it.
    """

    part: AfterPart
    record: CheckpointRecord

    def as_json(self) -> dict[str, Json]:
        """The whole of `coterie.json`."""
        return self.record.as_json()


def ended_with(folder: Path) -> tuple[Parts, Json] | None:
    """What a folder's record says was done last, and what decided its outcome; None without any."""
    record = read_record(folder)
    if record is None or not record.after:
        return None
    return Parts(record.after[-1], record), (record.identity or {}).get("after")


def remember(
    folder: Path,
    before: Path,
    record: CheckpointRecord | None,
    part: AfterPart,
    identity: Mapping[str, Json],
) -> Parts:
    """Write `coterie.json` and the model card of a checkpoint that came out of another one.

    Args:
        folder: Folder of the new checkpoint.
        before: Folder of the old one.
        record: The old one's record.
        part: What was done.
        identity: What decided its outcome.
    """
    old = CheckpointRecord(kind=part.what) if record is None else record
    # Nobody may take this for the finished run that only made the cut.
    own: dict[str, Json] = {"before": old.identity, "after": identity}
    whole = replace(old, after=[*(old.after or []), part], identity=own)
    (folder / "README.md").write_text(_card(whole, before, part), encoding="utf-8")
    if (before / FIGURE).is_file() and not (folder / FIGURE).exists():
        shutil.copyfile(before / FIGURE, folder / FIGURE)
    write_record(folder, whole)
    write_page(folder, whole)
    return Parts(part, whole)


def _card(whole: CheckpointRecord, before: Path, part: AfterPart) -> str:
    """The card anew where the cut was searched, for its head tells what the checkpoint is now."""
    card = before / "README.md"
    if isinstance(whole, Record) and whole.verdict is not None and whole.size is not None:
        return model_card(whole, licence_of(card)) + "".join(map(card_section, whole.after or []))
    # Of other checkpoints what was done since is added below what there is.
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    return f"{text}{card_section(part)}"
