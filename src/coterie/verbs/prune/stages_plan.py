"""`prune --dry-run --quantize … --heal …`: every stage of a composed run, stated beforehand."""

from coterie.report.schema.part import known
from coterie.report.schema.plan import PlanPart, StagePart
from coterie.verbs.after_cut.heal_request import HealRequest
from coterie.verbs.after_cut.repair import LEAST_SEQUENCES
from coterie.verbs.prune.after import After
from coterie.verbs.prune.destination import Destination
from coterie.verbs.prune.plan import plan_layers
from coterie.verbs.prune.request import PruneRequest
from coterie.verbs.prune.stages import command, place_of
from coterie.verbs.shared.request import HELD_OUT_SEQUENCES
from coterie.verbs.shared.result import Result

FORWARD_AND_BACK = 3
"""Forward passes that one step of learning costs: the backward pass is twice the forward one."""


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
    part.stages = stages(part, after, record.model.players, length)
    return planned


def stages(part: PlanPart, after: After, n_players: int, length: int) -> list[StagePart]:
    """What is done before and after the cut, in the order it is done.

    Layer-tokens are those of learning and judging; seconds are by the rate at which the search is
    expected to run them, and unknown where it runs none.

    Args:
        part: The plan of the cut.
        after: What is done around it.
        n_players: Layers of the whole model.
        length: Tokens of a sequence.
    """
    keep, rate = known(part.keep), _seconds_per_layer_token(part)
    judging = HELD_OUT_SEQUENCES * length
    whole = known(part.source_bytes)

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
        # Once through both models, and once more for every refit, at most two a layer.
        fitting = LEAST_SEQUENCES * length * (n_players + 3 * keep)
        detail = f"{after.repair}, fitted on {LEAST_SEQUENCES} × {length} tokens or more"
        layer_tokens = fitting + judging * (2 * keep + n_players)
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
