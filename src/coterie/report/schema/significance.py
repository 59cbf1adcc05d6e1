"""Which differences between two models are more than chance, task by task: plain JSON."""

from dataclasses import dataclass

from coterie.report.schema.part import Part


@dataclass(frozen=True, kw_only=True)
class PairedRow(Part):
    """Two models on the items of one task, the second against the first."""

    # Who is compared, and on what.
    task: str
    metric: str
    first: str
    second: str
    items: int
    # The scores, and the difference with the 95 % interval of a paired bootstrap over items.
    score_first: float
    score_second: float
    difference: float
    low: float
    high: float
    # McNemar's exact test; null where a score is more than right or wrong.
    only_first: int | None
    """Items that the first model alone has right."""
    only_second: int | None
    p: float | None
    p_holm: float | None
    """The same, valid together with all others of the table (Holm)."""
    # Non-inferiority.
    bound: float
    """What the difference is above with 95 % confidence."""
    not_inferior: bool
    """Whether that is more than minus the margin."""


@dataclass(frozen=True, kw_only=True)
class SignificancePart(Part):
    """One table: every task of every model but the first."""

    margin: float
    """How much worse is not worth a mention, as a share."""
    comparisons: int
    rows: list[PairedRow]


@dataclass(frozen=True, kw_only=True)
class LogsReport(Part):
    """What the sample logs of two or more runs of lm-evaluation-harness say."""

    kind: str
    command: str
    significance: SignificancePart
    left_out: list[str]
    """Tasks that not all have, or not with the same items."""
    versions: dict[str, str]
