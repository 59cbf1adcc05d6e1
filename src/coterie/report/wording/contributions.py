"""The two quantities that say what a player is worth, under one heading each."""

from coterie import players as p
from coterie.report.schema.record import Record


def absences_title(record: Record) -> str:
    """The heading of what was measured."""
    return f"Loss when one {p.unit(record.model.player_kind)} alone is absent, measured"


def contributions_title(record: Record) -> str:
    """The heading of what was learnt or estimated."""
    near = " near the cut" if record.choice is not None else ""
    return f"Contribution of each {p.unit(record.model.player_kind)}{near}"
