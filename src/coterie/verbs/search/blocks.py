"""After whole layers, single blocks: at most as many parameters, or as much time, and less loss.

What the search of layers has heard is known of the blocks too: a layer that is gone is both of its
blocks gone. From its answer the search goes on by exchanges of blocks below the cost of that answer
(`coterie.game.search.exchange`), and the answer is a finalist on all texts that decide.
"""

import time
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from coterie.engine.cost import Spent
from coterie.game.coalitions import Coalition, Coalitions, Vector, distinct, from_text, to_text
from coterie.game.search.ceiling import Ceiling
from coterie.game.search.decide import by_size
from coterie.game.search.exchange import Exchanges, ExchangeSettings
from coterie.game.search.ledger import Ledger
from coterie.game.search.methods.guided import CLOSE, MOST_COALITIONS
from coterie.game.search.plain import Answer
from coterie.game.search.race import by_race
from coterie.verbs.search.deciding import decided
from coterie.verbs.search.result import BlockRounds, Search, SearchResult, remarks_joined
from coterie.verbs.search.targets import Target, block_costs
from coterie.verbs.search.timed import OutOfTime, TimedGame
from coterie.verbs.shared.progress import Progress
from coterie.verbs.shared.workspace import Workspace

MULTIPLE = 2
"""How many times the work of the search of layers it may execute, over all sizes together."""

STARTS = 3
"""Answers of whole layers that it starts from."""

WHOLE, BLOCKS = "whole layers", "blocks"
"""What its finalists are called."""

STREAM = 7  # keeps its draws apart from all others of the same seed


@dataclass(frozen=True, eq=False)
class BlockChoice:
    """What going on among blocks has found.

    Attributes:
        workspace: The same model, its blocks the players.
        found: The result in blocks: a decision for each answer of whole layers, in their order.
        rounds: What it took.
        target: What must be met, in blocks; None where the cost of each answer must.
    """

    workspace: Workspace
    found: SearchResult
    rounds: BlockRounds
    target: Target | None


def choose_blocks(
    layers: Workspace,
    search: Search,
    found: SearchResult,
    target: Target | None,
    progress: Progress,
) -> BlockChoice:
    """Go on among single blocks, below the cost of each answer of whole layers or of a target.

    Args:
        layers: The opened model, its layers the players.
        search: The search of layers; its budget and the seconds left bound this one too.
        found: What it found.
        target: What must be met; where there is none, the parameters of each answer are.
        progress: Told what is being done.

    Raises:
        ModelError: the layers are not built of such blocks.
    """
    began, blocks = time.monotonic(), layers.in_blocks()
    progress.say("searching on: single blocks that cost no more than the whole layers found")
    known = blocks.calibration.known_coalitions()
    clock = _clock(blocks, search, found, progress)
    ledger = Ledger(clock, floor=found.ledger.floor)
    heard, losses = found.ledger.seen()
    ledger.take_over(doubled(heard), losses)
    answers, costs = _answers(found, target), block_costs(layers, blocks, target)
    target = None if target is None else replace(target, players=costs)
    # Two blocks are a layer; the sizes share alike.
    each = MULTIPLE * 2 * found.ledger.layers_executed / len(answers)
    explored = _Exploration(search, clock, ledger, known, each)
    groups = [
        explored.finalists(number, starts, _ceiling(blocks, costs, starts[0], target))
        for number, starts in enumerate(answers)
    ]
    out_of_time, clock.seconds = clock.spent >= clock.seconds, np.inf
    chosen = decided(blocks, blocks.calibration, ledger, groups, progress)
    fresh = ledger.seen()[0][len(heard) :]
    rounds = BlockRounds(
        asked=len(fresh),
        known=sum(to_text(row) in known for row in fresh),
        layer_tokens_asked=chosen.layer_tokens_asked // 2,
        before=_spent(layers, found),
        spent=_halved(_spent(blocks, chosen)),
        seconds=time.monotonic() - began,
        seconds_saved=clock.saved + chosen.seconds_saved,
        not_finite=chosen.not_finite,
    )
    chosen = replace(chosen, out_of_time=out_of_time, remark=_told(chosen, rounds))
    return BlockChoice(blocks, counted_together(found, chosen, rounds), rounds, target)


def _told(chosen: SearchResult, rounds: BlockRounds) -> str:
    won = [not of_whole_layers(one.winner.coalition) for one in chosen.decisions]
    return f"{rounds.told}: for {sum(won)} of {len(won)} answers of whole layers they lose less"


@dataclass(frozen=True, eq=False)
class _Exploration:
    """One search of blocks after another, on one account and within one time."""

    search: Search
    clock: TimedGame
    ledger: Ledger
    known: set[str]
    each: float
    """Blocks × texts that each search may execute."""

    def finalists(self, number: int, starts: Coalitions, ceiling: Ceiling) -> list[Answer]:
        """The answer of whole layers, which wins where all is equal, and the best of the blocks.

        Args:
            number: Which of the searches it is.
            starts: Answers of whole layers, as blocks, the best first.
            ceiling: What may be kept.
        """
        ledger, search, start = self.ledger, self.search, starts[0]
        whole = Answer(WHOLE, start, float(ledger.value(start[None])[0]))
        # Whole layers may have taken blocks along that a runtime asks for.
        if not len(starts := starts[ceiling.allows(starts)]):
            return [whole]
        settings = ExchangeSettings(
            search.budget or MOST_COALITIONS, ledger.layers_executed + self.each
        )
        exchanges = Exchanges(ledger, ceiling, keeps_attention, settings, by_race)
        seconds = self.clock.seconds
        try:
            rng = np.random.default_rng([search.seed, STREAM, number])
            exchanges.search(starts, rng=rng)
        except OutOfTime:
            self.clock.seconds = np.inf
            _recall(exchanges, self.known)
        own = exchanges.finalists(BLOCKS, CLOSE)
        self.clock.seconds = seconds
        others = [one for one in own if not np.array_equal(one.coalition, start)]
        return [whole, *others]


def counted_together(
    found: SearchResult, result: SearchResult, rounds: BlockRounds
) -> SearchResult:
    """A result whose counts are those of the search of layers, what came after beside them.

    Args:
        found: What the search of layers found.
        result: What is told in the end: the same with another remark, or the result in blocks.
        rounds: What going on among blocks took.
    """
    return replace(
        result,
        method=found.method,
        asked=found.asked,
        known=found.known,
        layer_tokens_asked=found.layer_tokens_asked,
        not_finite=found.not_finite + rounds.not_finite,
        out_of_time=found.out_of_time or result.out_of_time,
        seconds_observing=found.seconds_observing + rounds.seconds,
        seconds_choosing=found.seconds_choosing + rounds.seconds,
        seconds_saved=found.seconds_saved + rounds.seconds_saved,
        remark=remarks_joined(found.remark, result.remark),
        blocks=rounds,
    )


def of_whole_layers(coalition: Coalition) -> bool:
    """Whether both blocks of every layer stay, or both go.

    >>> of_whole_layers(np.array([True, True, False, False]))
    True
    """
    return bool((coalition[0::2] == coalition[1::2]).all())


def doubled(coalitions: Coalitions) -> Coalitions:
    """Coalitions of layers as coalitions of their blocks."""
    return np.repeat(coalitions, 2, axis=-1)


def keeps_attention(coalitions: Coalitions) -> NDArray[np.bool_]:
    """Which coalitions of blocks keep an attention block, as every checkpoint must."""
    return np.asarray(coalitions[:, 0::2].any(axis=1))


def _answers(found: SearchResult, target: Target | None) -> list[Coalitions]:
    """Of each size the winner and its close rivals, as blocks; of a target all sizes in one."""
    groups = [
        [decision.winner, *sorted(rivals, key=lambda one: -one.value)]
        for decision, rivals in zip(found.decisions, by_size(found.finalists), strict=True)
    ]
    if target is not None:
        every = [one for group in groups for one in group[1:]]
        groups = [[found.best.winner, *sorted(every, key=lambda one: -one.value)]]
    answers = [doubled(np.array([one.coalition for one in group])) for group in groups]
    return [rows[distinct(rows)[0][:STARTS]] for rows in answers]


def _ceiling(blocks: Workspace, costs: Vector, start: Coalition, target: Target | None) -> Ceiling:
    most = float(costs @ start) if target is None else target.most - target.rest
    return Ceiling(costs, most, np.array(blocks.locked, dtype=np.intp))


def _recall(explored: Exchanges, known: set[str]) -> None:
    """Let the ledger hear what the store knew: what an earlier run has found is not lost."""
    if len(coalitions := from_text(sorted(known))):
        may = explored.ceiling.allows(coalitions) & keeps_attention(coalitions)
        explored.ledger.losses(coalitions[may])


def _clock(blocks: Workspace, search: Search, found: SearchResult, progress: Progress) -> TimedGame:
    """The game of blocks within the seconds that the search of layers has left."""
    total = 4 * MULTIPLE * found.ledger.layers_executed  # asked: about twice what is executed

    def tell(done: int) -> None:
        progress.step("searching, block-sequences", min(done, total), total)

    left = None if search.seconds is None else max(0.0, search.seconds - found.seconds_spent)
    return TimedGame(blocks.calibration.game, seconds=left, tell=tell)


def _spent(workspace: Workspace, found: SearchResult) -> Spent:
    """What the engines of a workspace have run, those of the second texts among them."""
    second = Spent() if found.second is None else found.second.engine.spent
    return workspace.calibration.engine.spent + second


def _halved(spent: Spent) -> Spent:
    return replace(
        spent,
        layer_executions=spent.layer_executions // 2,
        layer_tokens=spent.layer_tokens // 2,
        setup_layer_tokens=spent.setup_layer_tokens // 2,
    )
