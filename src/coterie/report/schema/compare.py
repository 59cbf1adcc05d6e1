"""Methods under one evaluator: the shape of a comparison as plain JSON.

Every method chooses on the same texts and is judged on the same others. A row is a method at one
number of layers removed, the mean over its seeds; a cell is one seed of it. Losses are nats per
token; differences are paired sequence by sequence, their errors taken over documents. A number
that does not exist is null.
"""

from dataclasses import dataclass

from coterie.plain import Json
from coterie.report.schema.basics import TextPart
from coterie.report.schema.cluster import ClusterPart
from coterie.report.schema.part import Part


@dataclass(frozen=True)
class MeanPart(Part):
    """A mean with its standard error; null where there is none."""

    # Standard errors are over documents, except where a field says otherwise.
    mean: float
    error: float | None


@dataclass(frozen=True)
class JudgedPart(Part):
    """One row on the held-out texts of one length."""

    # Losses, then differences, which are the more exact: the spread of texts cancels.
    length: int
    nll: MeanPart
    perplexity: MeanPart
    against_full: MeanPart
    """Loss less the full model's."""
    against_best: MeanPart
    """Loss less the best row's of the same number removed; nothing for that row itself."""
    # How clear the verdict is.
    best: bool
    tied: bool
    """Not the best, but within two standard errors of it."""
    # Over seeds: how much of the answer is luck.
    seeds_low: float
    seeds_high: float
    """The lowest and the highest loss of its seeds."""
    not_finite: int


@dataclass(frozen=True)
class RowCostPart(Part):
    """What a method took for all numbers removed together, the mean over its seeds."""

    # Asked is fair between methods; executed is what this run had left to do.
    layer_tokens_asked: float
    """As if it had been alone."""
    layer_tokens_executed: float
    """What still had to be run, after whatever earlier methods had left in the store."""
    head_tokens: float
    backward_layer_tokens: float
    seconds: float
    peak_bytes: float | None
    """Peak memory of the search above its start."""


@dataclass(frozen=True)
class RowSizePart(Part):
    """The checkpoint and its speed here; the mean over seeds."""

    # As written to disk; speeds are of this machine.
    parameters: float
    bytes: float
    tokens_per_second: float | None
    """Generated, one text at a time."""
    speedup: float | None
    """Against the full model, timed in turn."""
    speedup_error: float | None = None
    """Standard error over the rounds."""


@dataclass(frozen=True)
class RowPart(Part):
    """A method at one number of layers removed."""

    method: str
    title: str
    paper: str | None
    removed: int
    gap: str | None
    """Why there is nothing: the method does not apply, or does not reach so far."""
    sequences: int
    """Calibration sequences it chose on, a second set that decides included."""
    seeds: int
    answers: int
    """Different answers over its seeds and draws."""
    layers: str
    """The layers removed by the first of them; what else was done, where a method rewrites."""
    calibration: float | None
    held_out: list[JudgedPart]
    cost: RowCostPart | None
    size: RowSizePart | None
    # Only where tasks were asked for.
    accuracy: MeanPart | None
    """Over the zero-shot tasks."""
    accuracy_against_full: MeanPart | None
    tasks: dict[str, MeanPart]


@dataclass(frozen=True)
class CellPart(Part):
    """One seed of a row."""

    method: str
    removed: int
    seed: int
    # The answer itself, then its losses.
    kept: list[list[int]]
    """Players kept, one list a draw."""
    players: str
    """What a player is: layer, or sublayer (attention 2 i, feed-forward 2 i + 1)."""
    held_out: dict[str, float]
    """Length → loss."""


@dataclass(frozen=True)
class Comparison(Part):
    """A whole report of `coterie compare`."""

    # What was asked, and what decides whether two comparisons are the same.
    kind: str
    command: str
    identity: dict[str, Json]
    """What decides the answer."""
    model: str
    fingerprint: str
    architecture: str
    layers: int
    locked: list[int]
    dtype: str
    device: str
    # The texts: those that choose, those that decide between finalists, those that judge.
    calibration: TextPart
    second: TextPart | None
    held_out: list[TextPart]
    tasks: list[str]
    # The full model is a row of its own, so that every table can begin with it.
    full: RowPart
    rows: list[RowPart]
    cells: list[CellPart]
    remarks: list[str]
    versions: dict[str, str]
    machine: dict[str, str | int]
    cluster: ClusterPart | None = None
