"""The report of what was done to a checkpoint after its cut, beside the report of the cut."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from coterie.plain import Json
from coterie.report.card.after_cut import card_section
from coterie.report.schema.after_cut import AfterPart
from coterie.report.schema.prune import Record
from coterie.verbs.shared.output import write_record


@dataclass(frozen=True)
class Parts:
    """What one command did, and the whole of `coterie.json` where it stands last.

    Attributes:
        part: Of this command.
        record: The record of the cut, where there is one, with everything done after it.
    """

    part: AfterPart
    record: dict[str, Json]

    @classmethod
    def finished(cls, record: Record, identity: Mapping[str, Json]) -> "Parts | None":
        """The report of a finished run, if the folder's record ends with this very one."""
        whole = cast("dict[str, Json]", record)
        after = whole.get("after")
        own = whole.get("identity")
        if not (isinstance(after, list) and after and isinstance(own, dict)):
            return None
        if own.get("after") != identity:
            return None
        return cls(cast("AfterPart", after[-1]), whole)


def remember(
    folder: Path,
    before: Path,
    record: Record | None,
    part: AfterPart,
    identity: Mapping[str, Json],
) -> Parts:
    """Write `coterie.json` and the model card of a checkpoint that came out of another one.

    Args:
        folder: Of the new checkpoint.
        before: Of the old one.
        record: The old one's record.
    """
    whole = dict(cast("Mapping[str, Json]", record)) if record is not None else {}
    earlier = whole.get("after")
    parts = [*earlier, part] if isinstance(earlier, list) else [part]
    old = whole.get("identity")
    whole.setdefault("kind", part["what"])
    whole["after"] = cast("Json", parts)
    # Nobody may take this for the finished run that only made the cut.
    whole["identity"] = {"before": old if isinstance(old, dict) else None, "after": identity}
    card = before / "README.md"
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    (folder / "README.md").write_text(f"{text}{card_section(part)}", encoding="utf-8")
    write_record(folder, whole)
    return Parts(part, whole)


def command_line(verb: str, settings: Mapping[str, Json], output: Path) -> str:
    """The command that asks for this, every path in it reduced to its last part."""
    words = ["coterie", verb, str(settings["model"])]
    flat = {**settings, **cast("dict[str, Json]", settings.get("judges") or {})}
    for name, value in flat.items():
        if name in ("model", "judges") or value in (None, False, 0.0):
            continue
        words.append(f"--{name.replace('_', '-')}")
        if value is not True:
            words.append(str(value))
    return shlex.join([*words, "--output", output.name])
