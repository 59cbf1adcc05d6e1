"""`coterie.json`: everything a run found, with its provenance, as plain JSON.

No absolute path, no user's name. A number that does not exist is null.
"""

from dataclasses import dataclass, field

from coterie.plain import Json
from coterie.report.schema.after_cut import AfterPart
from coterie.report.schema.basics import (
    CutPart,
    ModelPart,
    ServingPart,
    SizePart,
    StreamPart,
    TextPart,
)
from coterie.report.schema.cluster import ClusterPart
from coterie.report.schema.contributions import (
    AbsencesPart,
    ContributionsPart,
    FidelityPart,
    InteractionsPart,
    StabilityPart,
    StratumPart,
)
from coterie.report.schema.explorer import PlayerSizesPart, PlayerTimesPart, PredictorPart
from coterie.report.schema.part import Part
from coterie.report.schema.plan import PlanPart
from coterie.report.schema.search import BudgetPart, ChoicePart, MixPart, SearchPart, TargetPart
from coterie.report.schema.verdict import VerdictPart


@dataclass(kw_only=True)
class CheckpointRecord(Part):
    """What may stand beside any checkpoint, whichever command made it; all but its kind optional.

    A checkpoint without a record that was healed or quantized has no more than these.
    """

    kind: str
    command: str | None = None
    request: dict[str, Json] | None = None
    identity: dict[str, Json] | None = None
    """What decides the answer; a finished run with the same identity is only reported again."""
    model: ModelPart | None = None
    """The model it was made of."""
    calibration: TextPart | None = None
    held_out: TextPart | None = None
    cut: CutPart | None = None
    verdict: VerdictPart | None = None
    after: list[AfterPart] | None = None
    """What was done to the checkpoint since, in order."""
    serving: list[ServingPart] | None = None
    """Which runtimes read it rightly, from what was seen of each."""

    @property
    def composed(self) -> Json:
        """What decided the answer of a run of several stages; None for a run of one."""
        return (self.identity or {}).get("composed")


@dataclass(kw_only=True)
class Record(CheckpointRecord):
    """A whole report of `prune` or `values`. Parts that a run does not reach are absent."""

    # Required here, optional in the base: a record of a run names all of these.
    command: str = field()
    request: dict[str, Json] = field()
    identity: dict[str, Json] = field()
    model: ModelPart = field()
    calibration: TextPart = field()
    search: SearchPart
    versions: dict[str, str]
    machine: dict[str, str | int]
    # What was drawn and concluded; absent where the run did not reach it.
    strata: list[StratumPart] | None = None
    absences: AbsencesPart | None = None
    """What each player's absence alone costs, as far as it was observed."""
    contributions: ContributionsPart | None = None
    """None too where a search observed too little to tell what each player contributes."""
    fidelity: FidelityPart | None = None
    choice: ChoicePart | None = None
    utility: MixPart | None = None
    target: TargetPart | None = None
    stability: StabilityPart | None = None
    interactions: InteractionsPart | None = None
    # Of a checkpoint that was written.
    size: SizePart | None = None
    verification: dict[str, Json] | None = None
    runtimes: list[str] | None = None
    """What loads a checkpoint that lacks single blocks; absent where it is an ordinary one."""
    budget: BudgetPart | None = None
    breakdowns: list[str] | None = None
    """Coalitions without a finite loss in this run: on how many texts, and in which layer."""
    streaming: StreamPart | None = None
    cluster: ClusterPart | None = None
    plan: PlanPart | None = None
    # For whoever tries other cuts on the page of the run.
    player_sizes: PlayerSizesPart | None = None
    player_times: PlayerTimesPart | None = None
    """Absent where the layers are read from disk."""
    predictor: PredictorPart | None = None

    def as_json(self) -> dict[str, Json]:
        """The record as plain JSON; a search that could not tell contributions says null."""
        whole = super().as_json()
        # A plan has no budget yet, and says nothing of contributions.
        if self.budget is None:
            return whole
        return {**whole, **{k: whole.get(k) for k in ("contributions", "fidelity")}}


@dataclass(kw_only=True)
class CutRecord(CheckpointRecord):
    """What is known of a cut that nobody searched for."""

    command: str = field()
    model: ModelPart = field()
    cut: CutPart = field()
    verification: dict[str, Json] | None
    """Null where memory had no room to compare the checkpoint with the masked model."""
    versions: dict[str, str]
