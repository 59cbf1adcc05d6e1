"""What players contribute, how faithful a surrogate is, and how much of it is stable."""

from dataclasses import dataclass

from coterie.report.schema.part import Part


@dataclass(frozen=True)
class StratumPart(Part):
    """Coalitions of one size that were observed."""

    # Population is how many there are: a complete stratum has no sampling error.
    size: int
    coalitions: int
    population: int


@dataclass(frozen=True)
class LayerPart(Part):
    """One player's contribution with its standard errors by source.

    Null for a locked one, and where it was in every coalition that the surrogate learnt from.
    """

    layer: int
    """The decoder layer that the player is, or is a block of."""
    player: str
    """The player's label: the layer's number, for a block with its kind."""
    # The two errors are by source; the interval holds both.
    value: float | None
    error_sampling: float | None
    error_texts: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class ContributionsPart(Part):
    """Every player's contribution, in the order of the players."""

    semivalue: str
    unit: str
    replicates: int
    """Refits of the surrogate behind each standard error."""
    base_coalitions: int
    confidence: float
    layers: list[LayerPart]
    remark: str | None = None
    """Why values are null or to be read with care, in one sentence."""


@dataclass(frozen=True)
class AbsencePart(Part):
    """The rise in loss when one player alone is absent; null where that was not observed."""

    layer: int
    player: str
    loss: float | None
    """Above the full model, on the same texts."""
    error: float | None
    """Standard error, paired by document."""
    sequences: int
    """Texts it was observed on: all, unless a race showed earlier that it is not the best."""


@dataclass(frozen=True)
class AbsencesPart(Part):
    """Every single absence, in the order of the players: measured, not learnt."""

    unit: str
    layers: list[AbsencePart]


@dataclass(frozen=True)
class AgreementPart(Part):
    """How surrogate and game agree on coalitions the surrogate was not fitted to."""

    # Null where too few coalitions were held out, or all have one value.
    r2: float | None
    spearman: float | None
    coalitions: int


@dataclass(frozen=True)
class FidelityPart(Part):
    """The surrogate's held-out fidelity."""

    # By cross-validation, unless a set of checks was drawn for the size.
    how: str
    overall: AgreementPart
    by_size: dict[str, AgreementPart]
    requested_size: int | None
    requested: AgreementPart | None


@dataclass(frozen=True)
class OverlapPart(Part):
    """How much of the answer is the same in every two of some runs."""

    over: str
    """What differs between the runs: the seed of the search, or the calibration texts."""
    runs: int
    # How alike they are, pair by pair of runs.
    ranks: list[float | None]
    """Spearman correlation of the contributions of every two runs; null where one has none."""
    cuts: list[float]
    """Jaccard overlap of the players cut by every two runs."""
    removed: list[list[int]]
    """What each run would cut."""


@dataclass(frozen=True)
class StabilityPart(Part):
    """How much of the answer stays the same from run to run."""

    removed: int
    method: str
    overlaps: list[OverlapPart]


@dataclass(frozen=True)
class PairPart(Part):
    """The interaction of two players; negative: they stand in for each other."""

    # Both blocks of a layer are players of their own, so labels stand beside numbers.
    players: list[int]
    labels: list[str]
    value: float | None
    error_sampling: float | None
    error_texts: float | None


@dataclass(frozen=True)
class InteractionsPart(Part):
    """Interaction of every two players that are not locked."""

    name: str
    unit: str
    base_coalitions: int
    pairs: list[PairPart]
