"""`prune`: the main job, from a model's name to a smaller checkpoint that is proved."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from coterie.engine.interface import CutProof
from coterie.game.coalitions import Coalition
from coterie.game.study import watch
from coterie.game.utilities import at_floor, read
from coterie.models.cutting.blocks import write_block_cut
from coterie.models.cutting.write import write_cut
from coterie.models.files.sources import Source
from coterie.models.runtimes.verdicts import layer_verdicts
from coterie.plain import Json
from coterie.report.card.prune import FIGURE, model_card
from coterie.report.figure.contributions import draw_contributions
from coterie.report.schema.basics import SizePart
from coterie.report.schema.explorer import PredictorPart
from coterie.report.schema.generation import GenerationPart
from coterie.report.schema.part import known
from coterie.report.schema.record import Record
from coterie.report.schema.verdict import VerdictPart
from coterie.verbs.evaluate.generation import judge_generation
from coterie.verbs.outputs.finished import FinishedRun, ended_as
from coterie.verbs.outputs.page import write_page
from coterie.verbs.outputs.paths import remember_paths
from coterie.verbs.outputs.records import write_record
from coterie.verbs.prune.amounts import tell_amount
from coterie.verbs.prune.blocks import go_on_among_blocks
from coterie.verbs.prune.destination import Destination
from coterie.verbs.prune.rehearsal import rehearse_prune
from coterie.verbs.prune.request import PruneRequest
from coterie.verbs.search.by_utility import tell_mix
from coterie.verbs.search.choose import choose
from coterie.verbs.search.healed import choose_healed
from coterie.verbs.search.mix import mixed
from coterie.verbs.search.nearby import contributions_near
from coterie.verbs.search.player_times import player_times
from coterie.verbs.search.predictor import predictor_part
from coterie.verbs.search.record import chosen_record, searched_record, with_running
from coterie.verbs.search.repaired import PLAIN_SHARE, choose_repaired
from coterie.verbs.search.result import Search, SearchResult
from coterie.verbs.search.targets import player_sizes, target_of
from coterie.verbs.search.task_utilities import items_asked, tasks_of
from coterie.verbs.shared.grades import graded
from coterie.verbs.shared.licence import licence_of
from coterie.verbs.shared.prepared import Prepared, prepare, text_part
from coterie.verbs.shared.progress import Progress
from coterie.verbs.shared.record import cut_part
from coterie.verbs.shared.result import Result
from coterie.verbs.shared.serving import serving_asked, serving_parts
from coterie.verbs.shared.settings import size_asked
from coterie.verbs.shared.verdict import verdict_part
from coterie.verbs.shared.workspace import TextGame, Workspace, open_workspace

if TYPE_CHECKING:
    from lm_eval.api.task import Task


log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class _Judged:
    """Everything known before the checkpoint is written; the model itself is no longer needed."""

    record: Record
    source: Source
    coalition: Coalition
    proof: CutProof


def prune_alone(request: PruneRequest, to: Destination) -> Result:
    """The cut alone: chosen, written and proved, or reported again where it has finished.

    Raises:
        UserError: something asked cannot be done, in one line; nothing was written.
        VerificationError: the reloaded checkpoint is not the model that was measured.
    """
    request.check()
    began = time.monotonic()
    place = to.folder(request)
    before = FinishedRun(place, ended=ended_as(Record))
    tasks = {} if request.utility is None else tasks_of(request)
    prepared = prepare(request, progress=to.progress)
    identity = {**prepared.identity(), **items_asked(request, tasks)}
    if request.searches_repaired:
        identity["searched"] = "repaired"
    if request.finalists is not None:
        identity["finalists"] = request.finalists
    if done := before.same(identity, to.progress, source=prepared.source.folder):
        return Result(done)
    rehearse_prune(place, prepared, identity)
    # The model leaves memory here: the written one is loaded for the check.
    judged = _judge(prepared, tasks, to, began)
    judged.record.identity = identity
    began = time.monotonic()
    with place.written() as folder:
        to.progress.say(f"writing {to.output.name}")
        record = judged.record
        record.verification = _write(judged, folder)
        record.size = _sizes(judged.source, folder)
        known(record.budget).seconds["writing and checking"] = time.monotonic() - began
        draw_contributions(record, folder / FIGURE)
        card = model_card(record, licence_of(judged.source.folder / "README.md"))
        (folder / "README.md").write_text(card, encoding="utf-8")
        write_record(folder, record)
        write_page(folder, record)
    remember_run(record, request, to)
    return Result(record)


def remember_run(record: Record, request: PruneRequest, to: Destination) -> None:
    """Note where this run found its model and texts, so that what follows need not be told.

    Args:
        record: Of the finished run.
        request: What was asked.
        to: Where the checkpoint went, and the store.
    """
    named = {
        "model": request.model,
        "calibration": request.calibration,
        "held_out": request.held_out,
    }
    remember_paths(record, to.output, named, to.store)


def _write(judged: _Judged, folder: Path) -> dict[str, Json]:
    """Write the checkpoint and check it; one that lacks single blocks says what loads it."""
    source, record = judged.source, judged.record
    if record.model.player_kind == "layer":
        kept = np.flatnonzero(judged.coalition).tolist()
        write_cut(source, kept, folder)
        verdicts = layer_verdicts(source.config(), kept, len(judged.coalition))
        record.serving = serving_parts(verdicts)
        trust = source.trust_remote_code
        return judged.proof.check(folder, trust_remote_code=trust)
    # Labels read "3.mlp": the layer, then the block of it that was cut.
    gone: dict[str, set[int]] = {"attention": set(), "mlp": set()}
    for label in known(record.cut).removed_labels:
        layer, _, block = label.partition(".")
        gone[block].add(int(layer))
    done = write_block_cut(source, gone["attention"], gone["mlp"], folder)
    record.runtimes, record.serving = list(done.runtimes), serving_parts(done.verdicts)
    # The one Python file it needs is the package's own, just written.
    return judged.proof.check(folder, trust_remote_code=True)


def _judge(
    prepared: Prepared, tasks: Mapping[str, "Task"], to: Destination, since: float
) -> _Judged:
    """Search, decide, judge on held-out text; then the model leaves memory.

    Args:
        prepared: The model's files and the texts.
        tasks: What is answered where a mix of utilities chooses.
        to: Where the checkpoint goes, the store, and who is told.
        since: When the run began, by the monotonic clock.
    """
    with open_workspace(prepared, store=to.store, progress=to.progress) as workspace:
        opening = time.monotonic() - since
        # Where single blocks have won, they are the players from here on.
        workspace, coalition, record = _chosen(workspace, tasks, to.output, to.progress)
        began = time.monotonic()
        # The choice is made; only now is anything observed on the held-out texts.
        held_out = workspace.play_held_out()
        record.held_out = text_part(held_out.texts)
        written = _continued(workspace, coalition, to.progress)
        record.verdict = _verdict(held_out, coalition, written, to.progress)
        # What the checkpoint must do is noted while the model is still in memory.
        proof = workspace.engine.proof(coalition, workspace.calibration.game)
        with_running(record, workspace)
        seconds = known(record.budget).seconds
        seconds["judging"] = time.monotonic() - began
        seconds["preparing and loading"] = opening
        return _Judged(record, prepared.source, coalition, proof)


def _chosen(
    workspace: Workspace, tasks: Mapping[str, "Task"], output: Path, progress: Progress
) -> tuple[Workspace, Coalition, Record]:
    """The coalition that stays, the workspace of its players, and the record so far."""
    request, target = workspace.request, target_of(workspace)
    assert isinstance(request, PruneRequest)  # only `prune` comes here
    keeps = [size_asked(request, workspace.stack.n_players, workspace.locked) or 0]
    if target is not None:
        # A target may be met at several sizes: all that can meet it are searched.
        keeps = target.keeps(workspace.locked, workspace.stack.players)
    tell_amount(workspace, keeps, progress)
    allowed = None if target is None or len(keeps) == 1 else target.allowed
    mix = None if request.utility is None else mixed(workspace, tasks, progress)
    served = serving_asked(request, workspace.prepared.source, workspace.stack.n_players)
    search = replace(Search.of(request, keeps), allowed=allowed, served=served)
    plain = search
    if request.searches_repaired and search.seconds is not None:
        plain = replace(search, seconds=PLAIN_SHARE * search.seconds)
    found = choose(workspace, plain, progress, mix)
    if request.searches_repaired:
        found = choose_repaired(workspace, search, found, progress)
    if request.finalists == "healed":
        found = choose_healed(workspace, found, request.repair_asked or "both", progress)
    if request.goes_on_among_blocks:
        workspace, found, target = go_on_among_blocks(workspace, search, found, target, progress)
    kind = workspace.stack.players
    if found.searched is None:
        coalition = found.best.winner.coalition
        near = contributions_near(workspace, found, progress)
        record = chosen_record("prune", workspace, found, output, near)
        record.cut = cut_part(coalition, None, kind)
    else:
        study = found.searched.study
        # A ranking is cut to the first size that meets the target.
        cuts = map(study.keep, keeps)
        coalition = next(one for one in cuts if allowed is None or allowed(one[None])[0])
        record = searched_record("prune", workspace, found.searched, output)
        record.cut = cut_part(coalition, study.contributions.estimate, kind)
    record.player_sizes, record.predictor = player_sizes(workspace), _predictor(found)
    record.player_times = player_times(workspace)
    if mix is not None:
        tell_mix(record, mix, found, coalition, progress)
    if target is not None:
        record.target = target.part(coalition)
    return workspace, coalition, record


def _predictor(found: SearchResult) -> PredictorPart | None:
    """What the page predicts by; None where it cannot be had, for no run fails for its page."""
    try:
        return predictor_part(found)
    except (ArithmeticError, ValueError, np.linalg.LinAlgError) as error:
        log.warning("the page has no prediction: %s", error)
        return None


def _continued(
    workspace: Workspace, coalition: Coalition, progress: Progress
) -> GenerationPart | None:
    """What full and cut model write; None where the weights are on disk, or no text is written."""
    if workspace.batches is not None:
        return None
    progress.say("letting the full and the cut model write")
    prepared, model, stack = workspace.prepared, workspace.model, workspace.stack
    stays, tokenizer = coalition.tolist(), prepared.recipe.tokenizer
    return judge_generation(model, stack, stays, texts=prepared.held_out, tokenizer=tokenizer)


def _verdict(
    played: TextGame,
    coalition: Coalition,
    generation: GenerationPart | None,
    progress: Progress,
) -> VerdictPart:
    """Full model against cut one on the held-out texts, paired sequence by sequence."""
    both = np.stack([np.ones_like(coalition), coalition])

    def step(_: str, done: int, total: int) -> None:
        progress.step("judging on held-out text", done, total)

    seen, _ = watch(played.game, both, step)
    losses, _ = read(seen, "nll", played.engine.vocabulary)
    not_finite = at_floor(losses[1], played.engine.vocabulary)
    part = verdict_part(losses[0], losses[1], seen[1:], played.texts, not_finite)
    part = replace(part, generation=generation)
    return graded(part, played.engine.vocabulary)


def _sizes(source: Source, folder: Path) -> SizePart:
    new = Source(source.name, folder)
    return SizePart(
        parameters_before=sum(entry.n_values for entry in source.entries),
        parameters_after=sum(entry.n_values for entry in new.entries),
        bytes_before=sum(entry.n_bytes for entry in source.entries),
        bytes_after=sum(entry.n_bytes for entry in new.entries),
    )
