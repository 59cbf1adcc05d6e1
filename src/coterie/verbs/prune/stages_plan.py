"""`prune --dry-run --quantize … --heal …`: every stage of a composed run, stated beforehand."""

from dataclasses import dataclass

from coterie.models.families.fields import text_config
from coterie.models.files.sources import resolve
from coterie.models.loaded.load import pick_device
from coterie.repair.amount import sequences_in_a_game, sequences_to_fit
from coterie.repair.choose import names_of
from coterie.report.schema.part import known
from coterie.report.schema.plan import PlannedTimePart, PlanPart, StagePart
from coterie.report.schema.record import Record
from coterie.verbs.after_cut.heal_request import HealRequest
from coterie.verbs.prune.after import After
from coterie.verbs.prune.destination import Destination
from coterie.verbs.prune.plan import plan_layers
from coterie.verbs.prune.request import PruneRequest
from coterie.verbs.prune.stages import command, place_of
from coterie.verbs.search.forecast import with_times
from coterie.verbs.search.repaired import asked_on
from coterie.verbs.shared.request import HELD_OUT_SEQUENCES
from coterie.verbs.shared.result import Result

FORWARD_AND_BACK = 3
"""Forward passes that one step of learning costs: the backward pass is twice the forward one."""

REPAIRED_SEARCH = "repaired search"
"""What a plan calls the search among repaired coalitions."""

AGAIN_TO_REFIT = 2
"""Times more that a layer runs which is refitted: once for each of its blocks."""


@dataclass(frozen=True)
class Fitting:
    """What repairs are fitted on, in sequences, and how many coalitions are repaired.

    Attributes:
        game: Sequences in the game, those it is judged on included.
        coalitions: Repaired in the game, at most.
        written: Sequences for the repair that is written.
        length: Tokens of a sequence.
        tried: Repairs that are tried.
        streamed: Layers are read from disk.
    """

    game: int = 0
    coalitions: int = 0
    written: int = 0
    length: int = 0
    tried: int = 0
    streamed: bool = False

    @classmethod
    def of(cls, request: PruneRequest, record: Record) -> "Fitting":
        """What a run that repairs will do, from its config and its device alone."""
        if request.repair_asked is None:
            return cls()
        trust = request.trust_remote_code
        source = resolve(request.model, request.revision, trust_remote_code=trust)
        config = text_config(source.config())
        device, length = pick_device(request.first_device).type, record.calibration.length
        chosen = record.calibration.sequences
        return cls(
            sequences_in_a_game(config, length) + chosen,
            asked_on(device) if request.searches_repaired else 0,
            sequences_to_fit(config, length, device),
            length,
            len(names_of(request.repair_asked, device)),
            streamed=request.stream,
        )

    @property
    def told(self) -> str:
        """What the repair that is written is fitted on, and from where its layers come."""
        return f"fitted on {self.written} × {self.length} tokens" + ", streamed" * self.streamed

    def searching(self, n_players: int, keep: int) -> int:
        """Layer-tokens of the repaired search, where no two coalitions share a layer."""
        return self.game * self.length * (n_players + self.coalitions * keep)

    def refitting(self, n_players: int, keep: int) -> int:
        """Layer-tokens of one repair that is written."""
        return self.written * self.length * (n_players + (1 + AGAIN_TO_REFIT) * keep)


def plan_and_after(request: PruneRequest, after: After, to: Destination) -> Result:
    """The plan of the cut, played on the plain model, and the work of every stage around it.

    Args:
        request: What is cut.
        after: What follows the cut.
        to: Where the last checkpoint would go; nothing is written.

    Raises:
        UserError: as the run would, for the same reasons.
    """
    request.check()
    after.check(request)
    place_of(request, after, to).check()
    # Before anything is written there is only the plain model, so the cut is planned on it.
    planned = plan_layers(request, to)
    record = planned.record
    record.command = command(request, after, to.output)
    part, length = known(record.plan), record.calibration.length
    fitting = Fitting.of(request, record)
    part.stages = stages(part, after, record.model.players, length, fitting)
    beside = [_time_of(one, request.time) for one in part.stages]
    with_times(part, [*(part.times or []), *beside])
    return planned


def _time_of(stage: StagePart, limit: float | None) -> PlannedTimePart:
    """How long a stage takes; a search keeps to its limit of time."""
    seconds = stage.seconds or 0.0
    if limit is not None and stage.what == REPAIRED_SEARCH:
        seconds = min(seconds, limit)
    return PlannedTimePart(stage.what, seconds, seconds)


def stages(
    part: PlanPart, after: After, n_players: int, length: int, fitting: Fitting
) -> list[StagePart]:
    """What is done before and after the cut, in the order it is done.

    Layer-tokens are those of learning and judging; seconds are by the rate at which the search is
    expected to run them, and unknown where it runs none.

    Args:
        part: The plan of the cut.
        after: What is done around it.
        n_players: Layers of the whole model.
        length: Tokens of a sequence.
        fitting: What repairs are fitted on.
    """
    keep, rate = known(part.keep), _seconds_per_layer_token(part)
    judging, whole = HELD_OUT_SEQUENCES * length, known(part.source_bytes)

    def stage(what: str, detail: str, layer_tokens: int, disk: int) -> StagePart:
        seconds = None if rate is None else rate * layer_tokens
        return StagePart(
            what=what, detail=detail, layer_tokens=layer_tokens, disk_bytes=disk, seconds=seconds
        )

    found = []
    if after.quantize_first:
        detail = f"{after.scheme}, before the cut; the game is played on it"
        found.append(stage("quantize", detail, 2 * n_players * judging, whole))
    if after.repair is not None:
        if fitting.coalitions:
            detail = f"up to {fitting.coalitions} coalitions, repaired and compared"
            found.append(stage(REPAIRED_SEARCH, detail, fitting.searching(n_players, keep), 0))
        detail = f"{after.repair}, {fitting.told}"
        layer_tokens = fitting.tried * fitting.refitting(n_players, keep)
        layer_tokens += judging * (2 * keep + n_players)
        found.append(stage("repair", detail, layer_tokens, part.disk_bytes))
    if after.heal_steps is not None:
        steps, batch = after.heal_steps, HealRequest(".").batch
        # The teacher runs all layers forward once; the student learns with those it keeps.
        learning = steps * batch * length * (n_players + FORWARD_AND_BACK * keep)
        detail = f"{steps} steps of {batch} × {length} tokens"
        if after.quantize_first:
            detail += ", the same layers of the plain model"
        # Judged are the student before and after, and the teacher.
        layer_tokens = learning + judging * (2 * keep + n_players)
        found.append(stage("heal", detail, layer_tokens, part.disk_bytes))
    if after.scheme is not None and (after.heal_steps is not None or not after.quantize_first):
        found.append(stage("quantize", after.scheme, 2 * keep * judging, part.disk_bytes))
    return found


def _seconds_per_layer_token(part: PlanPart) -> float | None:
    """What the plan of the cut takes a layer-token to last, its share of the head included."""
    # Coalitions that the store knows take no time.
    spare = 1.0 if part.at_most else 1 - part.known / part.distinct
    tokens = part.layer_tokens_executed * spare
    return part.seconds / tokens if tokens > 0 else None
