"""What layers contribute, for sharing out sparsity: exact, by surrogate, or by sliding windows.

In windows, where nearly all players stay, a coalition is worth minus its loss, in nats per token.
Where dozens of players are cut it is worth PPL(full) / PPL(S) (arXiv:2602.07804): broken models are
all worth about nothing, while their losses differ wildly and would drown what matters. What a
method asks of the model is known beforehand, because it depends on the number of players alone.
"""

from dataclasses import dataclass
from time import perf_counter

import numpy as np

from coterie.engine.cost import plan
from coterie.game.coalitions import Coalitions, Vector
from coterie.game.search.ledger import Ledger
from coterie.game.utilities import floor_nll
from coterie.report.words import count
from coterie.verbs.shared.progress import Progress
from coterie.verbs.shared.workspace import Workspace
from coterie.verbs.sparsify.contribution_methods import (
    ContributionMethod,
    Values,
    contribution_method,
)
from coterie.verbs.sparsify.request import SparsifyRequest


@dataclass(frozen=True, eq=False)
class Measured:
    """Contributions, and what they cost.

    Attributes:
        how: What was computed, in words.
        values: ``(n_players,)``; NaN where a player cannot be cut.
        distinct: Coalitions asked.
        layer_tokens: Layer-tokens asked, each coalition as if alone.
        seconds: What playing the game took.
        not_finite: Losses that were no number and were read as twice the loss of guessing.
    """

    how: str
    values: Vector
    distinct: int
    layer_tokens: int
    seconds: float
    not_finite: int


@dataclass(frozen=True, eq=False)
class ContributionPlan:
    """A method, and what it asks of the model: known before anything is asked.

    Attributes:
        method: What will be computed.
        coalitions: What it asks, each once, in the order in which prefixes are shared.
        executions: Layers that will be run on a prefix, over all sequences, as far as nothing is
            known yet.
        layer_tokens: Layer-tokens asked, each coalition as if alone.
        layer_tokens_executed: What ``executions`` come to.
    """

    method: ContributionMethod
    coalitions: Coalitions
    executions: int
    layer_tokens: int
    layer_tokens_executed: int


def plan_contributions(request: SparsifyRequest, workspace: Workspace) -> ContributionPlan:
    """What contributions will ask of an opened model.

    Raises:
        SparsityError: too many players for exact values.
    """
    n_players, texts = workspace.stack.n_players, workspace.calibration.texts
    method = contribution_method(request, n_players, workspace.locked)
    asked = asked_by(method.values, n_players)
    work = [
        plan(part, texts.n_sequences, texts.length) for part in workspace.engine.questions(asked)
    ]
    return ContributionPlan(
        method,
        asked,
        sum(part.layer_executions for part in work),
        sum(part.layer_tokens_asked for part in work),
        sum(part.layer_tokens_executed for part in work),
    )


def measure(workspace: Workspace, request: SparsifyRequest, progress: Progress) -> Measured:
    """Play the game on the calibration texts; what it will ask is said first.

    Args:
        workspace: The opened model.
        request: Says which method.
        progress: Counts the coalitions.

    Raises:
        SparsityError: too many players for exact values.
    """
    n_players, played = workspace.stack.n_players, workspace.calibration
    work = plan_contributions(request, workspace)
    total = len(work.coalitions)
    progress.say(
        f"{work.method.how}: {total:,} coalitions, {count(work.layer_tokens)} layer-tokens asked, "
        f"{count(work.layer_tokens_executed)} to run"
    )
    # A broken model may have no finite loss; it is read as twice the loss of guessing.
    ledger = Ledger(played.game, floor=floor_nll(played.engine.vocabulary))
    began, done = perf_counter(), 0

    def value(coalitions: Coalitions) -> Vector:
        nonlocal done
        # A method may ask for a coalition twice; the model is asked once.
        distinct, inverse = np.unique(coalitions, axis=0, return_inverse=True)
        parts = []
        for part in workspace.engine.questions(distinct):
            parts.append(ledger.value(part))
            done += len(part)
            progress.step("observing coalitions", min(done, total), total)
        # Values are relative to the full model: 0 nats, or 1 as a share of 1/perplexity.
        full = ledger.value(np.ones((1, n_players), dtype=bool))[0]
        gained = np.concatenate(parts)[inverse.reshape(-1)] - full
        return gained if work.method.in_nats else np.exp(gained)

    found = work.method.values(value)
    seconds = perf_counter() - began
    return Measured(
        how=work.method.how,
        values=found,
        distinct=total,
        layer_tokens=work.layer_tokens,
        seconds=seconds,
        not_finite=ledger.not_finite,
    )


def asked_by(values: Values, n_players: int) -> Coalitions:
    """The coalitions that a method asks for, found by answering it with nothing."""
    asked: list[Coalitions] = []

    def nothing(coalitions: Coalitions) -> Vector:
        asked.append(coalitions)
        return np.zeros(len(coalitions))

    # No method chooses by the values it is given, so zeros make it ask all its questions.
    values(nothing)
    return np.unique(np.concatenate(asked), axis=0)
