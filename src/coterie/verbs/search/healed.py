"""Finalists judged after a short healing: the best cut before it need not be the best after it.

Each finalist is repaired, learns for a few steps from the full model on the same batches with an
optimizer of its own, and is judged by what it then loses. No weight of the model is changed.
"""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch

from coterie.errors import RepairError
from coterie.game.coalitions import Vector, distinct
from coterie.game.search.decide import Decision, Standing
from coterie.game.search.plain import Answer
from coterie.game.utilities import clustered_mean
from coterie.healing.lesson import TaughtLesson, TrainingPlan, few_steps
from coterie.healing.modes import MODES
from coterie.healing.origin import HealError
from coterie.healing.schedule import learning_rate
from coterie.healing.teachers import LiveTeacher
from coterie.repair.changes import NewWeights
from coterie.repair.choose import Repaired, repaired
from coterie.repair.repairable import WholeModel
from coterie.scores.sequence_losses import floored_losses
from coterie.texts.sets import TextSet
from coterie.verbs.after_cut.learning import usual_rate
from coterie.verbs.search.result import SearchResult, ordered, remarks_joined
from coterie.verbs.shared.prepared import fitting_texts
from coterie.verbs.shared.progress import Progress
from coterie.verbs.shared.workspace import Workspace

MODE = "gaps"
"""What learns: the layers around each gap, which are few and need no package."""

STEPS, BATCH = 20, 8
"""Steps that each finalist learns, and sequences of a step."""

ASIDE = 8
"""Of so many sequences one says which repair is applied, and is not fitted on."""

MOST = 4
"""Finalists of a size that are healed, at most."""


def choose_healed(
    workspace: Workspace, found: SearchResult, method: str, progress: Progress
) -> SearchResult:
    """What a search has found, decided again by what each finalist loses after a short healing.

    Args:
        workspace: The opened model and its texts.
        found: The result with its finalists.
        method: Of the repair that comes before.
        progress: Told what is being done.

    Returns:
        The same result with other decisions and a remark; as it was, with a remark, where a
        finalist cannot be repaired.
    """
    began = time.monotonic()
    progress.say("healing the finalists for a few steps, to judge them then")
    try:
        texts = fitting_texts(workspace.prepared, STEPS * BATCH, ASIDE)
        decisions, repairs, changed = _decided(workspace, found, texts, method, progress)
    except (RepairError, HealError) as reason:
        progress.say(f"warning: finalists were decided unhealed: {reason}")
        return replace(found, remark=remarks_joined(found.remark, f"decided unhealed: {reason}"))
    seconds = time.monotonic() - began
    wins = "another one wins" if changed else "the same one wins"
    told = f"finalists were judged after {repairs_told(repairs)}: {wins}"
    remarks = dict.fromkeys(remark for one in repairs for remark in one.remarks)
    finalists = [
        Answer(one.method, coalition, float("nan"))
        for decision, coalitions in decisions
        for one, coalition in zip(decision.standings, coalitions, strict=True)
    ]
    return replace(
        found,
        decisions=[decision for decision, _ in decisions],
        finalists=ordered(finalists),
        remark=remarks_joined(found.remark, told, *remarks),
        seconds_choosing=found.seconds_choosing + seconds,
    )


def _decided(
    workspace: Workspace, found: SearchResult, texts: TextSet, method: str, progress: Progress
) -> tuple[list[tuple[Decision, np.ndarray]], list[Repaired], bool]:
    """Every size decided anew, with its finalists; their repairs; whether any other one wins."""
    prepared = workspace.prepared
    judges = [prepared.calibration, *([] if prepared.second is None else [prepared.second])]
    tokens = np.concatenate([one.tokens for one in judges])
    decisions, repairs, changed = [], list[Repaired](), False
    for before in found.decisions:
        keep = int(before.winner.coalition.sum())
        answers = [one for one in found.finalists if int(one.coalition.sum()) == keep]
        answers.insert(0, before.winner)
        first = np.sort(distinct(np.array([one.coalition for one in answers]))[0])[:MOST]
        answers = [answers[place] for place in first]
        losses = []
        for done, answer in enumerate(answers):
            progress.step(f"healing finalists that keep {keep}", done, len(answers))
            repairs.append(_repair(workspace, answer, texts, method))
            losses.append(_healed_losses(workspace, answer, texts, tokens, repairs[-1].weights))
        table = np.stack(losses)
        best = int(table.mean(axis=1).argmin())
        changed |= best != 0
        winner = Answer(answers[best].method, answers[best].coalition, -float(table[best].mean()))
        standings = [
            Standing(answer.method, *clustered_mean(extra, found.documents))
            for answer, extra in zip(answers, table - table[best], strict=True)
        ]
        decisions.append((Decision(winner, standings), np.array([a.coalition for a in answers])))
    return decisions, repairs, changed


def repairs_told(repairs: Sequence[Repaired]) -> str:
    """What the finalists went through: a repair that does not lower the loss is not applied.

    >>> repairs_told([Repaired("spread", {}, np.zeros(1)), Repaired("none", {}, np.zeros(1))])
    'a repair and 20 steps of healing (1 of 2 by spread)'
    """
    names = Counter(one.name for one in repairs if one.name != "none")
    if not names:
        return f"no repair and {STEPS} steps of healing"
    told = ", ".join(f"{n} of {len(repairs)} by {name}" for name, n in sorted(names.items()))
    return f"a repair and {STEPS} steps of healing ({told})"


def _repair(workspace: Workspace, answer: Answer, texts: TextSet, method: str) -> Repaired:
    """The repair of one finalist."""
    kept, aside = np.flatnonzero(answer.coalition).tolist(), max(1, texts.n_sequences // ASIDE)
    fit = (texts.tokens[:-aside], texts.tokens[-aside:])
    return repaired(WholeModel(workspace.model, workspace.stack), kept, fit, method)


def _healed_losses(
    workspace: Workspace,
    answer: Answer,
    texts: TextSet,
    tokens: np.ndarray,
    weights: NewWeights,
) -> Vector:
    """Loss of one finalist on every sequence that decides, repaired and healed for a few steps."""
    model, stack, kept = workspace.model, workspace.stack, np.flatnonzero(answer.coalition).tolist()
    rate, seed = usual_rate(MODE, model.config), workspace.request.seed
    with _as_it_was(model):
        student = MODES[MODE].beside(model, stack, kept, rank=0, seed=seed, repaired=weights)
        plan = TrainingPlan(STEPS, BATCH, rate, seed=seed)
        lesson = TaughtLesson(student, LiveTeacher(student), texts.tokens, plan)
        with torch.enable_grad():
            few_steps(lesson, STEPS, lambda done: rate * learning_rate(done, STEPS))
        with student.alone():
            return floored_losses(model, tokens, predict=student.predict)[0]


@contextmanager
def _as_it_was(model: torch.nn.Module) -> Iterator[None]:
    """Put back afterwards which parameters take gradients."""
    before = [(one, one.requires_grad) for one in model.parameters()]
    try:
        yield
    finally:
        for one, takes in before:
            one.requires_grad_(takes)
