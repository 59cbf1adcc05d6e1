"""What layers contribute, for sharing out sparsity: exact, by surrogate, or by sliding windows.

In windows, where nearly all players stay, a coalition is worth minus its loss, in nats per token.
Where dozens of players are cut it is worth PPL(full) / PPL(S) (arXiv:2602.07804): broken models are
all worth about nothing, while their losses differ wildly and would drown what matters. What a
method asks of the model is known beforehand, because it depends on the number of players alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from coterie.engine.cost import plan
from coterie.game.coalitions import Coalitions, Indices, ValueFunction, Vector
from coterie.game.designs import enumerate_all
from coterie.game.estimation.regression import kernel_shapley, sliding_window_shapley
from coterie.game.estimation.semivalues import exact, placed, shapley
from coterie.game.search.ledger import Ledger
from coterie.game.utilities import floor_nll
from coterie.report.words import count
from coterie.sparsity.bounds import SparsityError
from coterie.verbs.shared.prepared import Prepared
from coterie.verbs.shared.progress import Progress
from coterie.verbs.shared.settings import sketch
from coterie.verbs.shared.workspace import Workspace
from coterie.verbs.sparsify.request import SparsifyRequest

EXACT_UP_TO = 10
"""Players for which every coalition is asked unless another method is named."""

MOST_PLAYERS_EXACTLY = 16
"""Players beyond which exact values are refused."""

PER_PLAYER = 32
"""Coalitions per player that the surrogate is fitted to, unless a budget says otherwise."""

_RATIO = "shares of the full model's 1/perplexity"

Locked = tuple[int, ...]
"""Players that stay."""

Values = Callable[[ValueFunction], Vector]
"""Turns a value function into contributions ``(n_players,)``, NaN for players that stay."""


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
class ContributionMethod:
    """A way to contributions.

    Attributes:
        how: What will be computed, in words.
        values: The computation.
        in_nats: Whether a coalition is worth minus its loss, instead of a share of 1/perplexity.
    """

    how: str
    values: Values
    in_nats: bool = False


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


def contribution_method(
    request: SparsifyRequest, n_players: int, locked: Locked
) -> ContributionMethod:
    """What will be computed, in words, and the computation.

    Args:
        request: Says which method, and its window or budget.
        n_players: Players of the game.
        locked: Those that stay.

    Raises:
        SparsityError: too few players or coalitions, or too many for exact values.
    """
    n_free = n_players - len(locked)
    kind = _kind(request, n_free)
    if n_free < kind.least_free:
        raise SparsityError(
            f"{len(locked)} of {n_players} players are locked and {n_free} may be cut, too few to"
            " compare: lock fewer (--lock), or give --allocation uniform"
        )
    return kind.make(request, n_players, np.array(locked, dtype=np.intp))


def _window(request: SparsifyRequest, n_players: int, locked: Indices) -> ContributionMethod:
    # A small model may have fewer players than the window is wide.
    width = min(request.window, n_players - len(locked))

    def values(value: ValueFunction) -> Vector:
        return sliding_window_shapley(value, n_players, window=width, locked=locked).values

    how = f"Shapley values in sliding windows of {width}, nats per token"
    return ContributionMethod(how, values, in_nats=True)


def _exactly(request: SparsifyRequest, n_players: int, locked: Indices) -> ContributionMethod:
    n_free = n_players - len(locked)
    if n_free > MOST_PLAYERS_EXACTLY:
        raise SparsityError(
            f"exact contributions of {n_free} players take 2^{n_free} coalitions, and are computed "
            f"for at most {MOST_PLAYERS_EXACTLY} players: give --contributions surrogate or window"
        )

    def values(value: ValueFunction) -> Vector:
        free = np.setdiff1d(np.arange(n_players), locked)
        everyone = np.ones((2 ** len(free), n_players), dtype=bool)
        # Locked players stay in every coalition: the game is played by the others.
        everyone[:, free] = enumerate_all(len(free))
        return placed(exact(value(everyone), shapley(len(free))), n_players, free).values

    return ContributionMethod(f"exact Shapley values, {_RATIO}", values)


def _by_surrogate(request: SparsifyRequest, n_players: int, locked: Indices) -> ContributionMethod:
    n_free = n_players - len(locked)
    budget, fewest = request.budget or PER_PLAYER * n_free, 4 * n_free + 2
    if budget < fewest:
        raise SparsityError(
            f"--budget {budget} is too small for a surrogate of {n_free} players: give at least"
            f" {fewest} coalitions, or --contributions window"
        )
    draws = (budget - 2) // 2  # in pairs, beside the full and the empty coalition
    # A fresh generator for each call: the plan and the game must draw the same coalitions.
    seed = np.random.SeedSequence([request.seed, 5])

    def values(value: ValueFunction) -> Vector:
        rng = np.random.default_rng(seed)
        return kernel_shapley(value, n_players, draws=draws, locked=locked, rng=rng).values

    return ContributionMethod("Shapley values of an additive surrogate", values)


@dataclass(frozen=True)
class _Kind:
    """How a method is made, and the fewest players that it can tell apart."""

    make: Callable[[SparsifyRequest, int, Indices], ContributionMethod]
    least_free: int = 1


_KINDS = {
    "window": _Kind(_window),
    "exact": _Kind(_exactly),
    "surrogate": _Kind(_by_surrogate, least_free=2),
}


def check_contributions(request: SparsifyRequest, prepared: Prepared) -> None:
    """Refuse contributions that cannot be had, before a weight is loaded.

    Raises:
        SparsityError: too few players or coalitions, or too many for exact values.
    """
    if request.rule().contributions:
        contribution_method(request, sketch(prepared.request, prepared.source)[0], prepared.locked)


def asked_by(values: Values, n_players: int) -> Coalitions:
    """The coalitions that a method asks for, found by answering it with nothing."""
    asked: list[Coalitions] = []

    def nothing(coalitions: Coalitions) -> Vector:
        asked.append(coalitions)
        return np.zeros(len(coalitions))

    # No method chooses by the values it is given, so zeros make it ask all its questions.
    values(nothing)
    return np.unique(np.concatenate(asked), axis=0)


def _kind(request: SparsifyRequest, n_free: int) -> _Kind:
    """The method that the rule or the user names; without one, exact values while they are few."""
    named = request.rule().contributions_by or request.measuring()
    if named in _KINDS:
        return _KINDS[named]
    # A budget that all coalitions fit in makes exact values possible.
    most = 2**EXACT_UP_TO if request.budget is None else request.budget
    return _KINDS["exact" if n_free <= EXACT_UP_TO and 2**n_free <= most else "surrogate"]
