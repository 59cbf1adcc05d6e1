"""One game played on several devices: a replica of the model on each, coalitions divided between.

Coalitions are cut into subtrees of the trie of prefixes, a few for each replica, and whoever is
free takes the next: neighbours stay together, so little shared work is done twice. Only the first
replica chooses the batch shape; the others are given it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from queue import Empty, Queue
from threading import Event, Thread
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel

from coterie.engine.batch_shape import BatchShape
from coterie.engine.cost import Spent
from coterie.engine.interface import Seconds
from coterie.engine.memory import memory_for_states
from coterie.engine.model_game import ModelGame
from coterie.engine.proof import LogitProof
from coterie.engine.trie import parts
from coterie.game.coalitions import Block, Coalition, Coalitions, Game, Indices
from coterie.game.prefixes import executions, prefix_order
from coterie.models.loaded.stack import Stack

PARTS_PER_REPLICA = (4, 2, 1)
"""Subtrees for each replica, by preference: many even out speeds, few share more prefixes."""

TWICE = 0.05
"""Share of the work that may be done twice for the sake of even speeds."""


class Replicas:
    """Several copies of one game, on a device each, that answer together.

    Args:
        games: The same model and texts, each on its own device.

    Attributes:
        model: That of the first replica, as are stack and mode.

    Raises:
        ValueError: There is no game, or they differ in players or texts.
    """

    def __init__(self, games: Sequence[ModelGame]) -> None:
        if len({(game.n_players, game.n_sequences, game.length) for game in games}) != 1:
            raise ValueError("replicas must be one or more games with the same players and texts")
        self.games = list(games)
        self.n_players, self.n_sequences = games[0].n_players, games[0].n_sequences
        self.length, self.vocabulary = games[0].length, games[0].vocabulary
        self.model, self.stack, self.mode = games[0].model, games[0].stack, games[0].mode
        self._opening = [len(game.remarks) for game in games]
        self._seconds = 0.0

    @property
    def shape(self) -> BatchShape:
        """The batch shape of the first replica."""
        return self.games[0].shape

    @property
    def spent(self) -> Spent:
        """What all replicas ran; seconds are wall-clock time, not the sum over replicas."""
        total = sum((game.spent for game in self.games), Spent())
        return replace(total, seconds=self._seconds)

    @property
    def remarks(self) -> list[str]:
        """What went wrong on any of them; remarks made at the start, about the model, only once."""
        opening = self.games[0].remarks[: self._opening[0]]
        since = zip(self.games, self._opening, strict=True)
        return opening + [remark for game, said in since for remark in game.remarks[said:]]

    @property
    def batches(self) -> None:
        """The weights are in memory: nothing is brought from files."""

    @property
    def traffic(self) -> None:
        """Nothing is read from disk."""

    @property
    def pass_bytes(self) -> int:
        """Nothing is read from disk."""
        return 0

    @property
    def at_once(self) -> int:
        """Devices that share the work; two copies on one device gain nothing."""
        return len({game.model.device for game in self.games})

    def questions(self, coalitions: Coalitions) -> list[Coalitions]:
        """Groups of coalitions, as the first replica forms them."""
        return self.games[0].questions(coalitions)

    def seconds(self) -> Seconds:
        """Time of one replica; of all of them together it is this divided by `at_once`."""
        return self.games[0].seconds()

    def memory_bytes(self, coalitions: Coalitions) -> int:
        """Bytes that all copies on the first device take together."""
        devices = [game.model.device for game in self.games]
        return devices.count(devices[0]) * self.games[0].memory_bytes(coalitions)

    def check_layers(self) -> None:
        """Check the first replica; the others have the same layers.

        Raises:
            NotReplayable: The layers differ from those in the model.
            TailNotFound: What follows the last layer cannot be run apart.
        """
        self.games[0].check_layers()

    def proof(self, coalition: Coalition, game: Game) -> LogitProof:
        """What a cut checkpoint must do, by the first replica.

        Args:
            coalition: The players that stay, ``(n_players,)``.
            game: Not used: logits are compared, not losses.
        """
        return self.games[0].proof(coalition, game)

    def observe(self, coalitions: Coalitions, sequences: Indices) -> Iterator[Block]:
        """Observe distinct coalitions on distinct sequences, block by block, as soon as known.

        A block's seconds are wall-clock time since the block before it.
        """
        coalitions = np.asarray(coalitions, dtype=bool)
        order = prefix_order(coalitions)
        waiting: Queue[Indices] = Queue()
        # The parts wait in one queue, so a fast device takes more of them.
        for part in divided_work(coalitions[order], len(self.games)):
            waiting.put(order[part])
        done: Queue[Block | BaseException | None] = Queue()
        stop = Event()
        # Threads, not processes: the work is in torch, which lets other threads run.
        workers = [
            Thread(target=_work, args=(game, coalitions, sequences, waiting, done, stop))
            for game in self.games
        ]
        began = perf_counter()
        try:
            for worker in workers:
                worker.start()
            yield from self._gathered(done, began)
        finally:  # the caller may have stopped, or a replica failed: let the others end
            stop.set()
            for worker in workers:
                if worker.ident is not None:  # it was started
                    worker.join()

    def _gathered(
        self, done: "Queue[Block | BaseException | None]", began: float
    ) -> Iterator[Block]:
        running = len(self.games)
        while running:
            got = done.get()
            seconds = perf_counter() - began
            self._seconds += seconds
            if isinstance(got, BaseException):
                raise got
            if got is None:
                running -= 1
            else:
                yield replace(got, seconds=seconds)
            began = perf_counter()


def divided_work(ordered: Coalitions, n_replicas: int) -> list[Indices]:
    """Divide coalitions in `prefix_order` into subtrees for replicas; a small question into few."""
    whole = executions(ordered).sum()
    for each in PARTS_PER_REPLICA:
        found = parts(ordered, each * n_replicas)
        if sum(executions(ordered[part]).sum() for part in found) <= (1 + TWICE) * whole:
            break
    return found


def replicated(
    copies: Sequence[tuple[PreTrainedModel, Stack]],
    tokens: NDArray[np.int64],
    *,
    shape: BatchShape | None = None,
    state_memory: int | None = None,
) -> ModelGame | Replicas:
    """The game of one model, or of its copies on several devices.

    Args:
        copies: The same model on each device, with its players.
        tokens: Token ids, ``(n_sequences, length)``.
        shape: Batch shape of an earlier run; by default the first copy chooses it.
        state_memory: Bytes for live states on each device, copies on one device sharing them; by
            default half of what is free there.
    """
    games: list[ModelGame] = []
    for model, stack in copies:
        memory, sharing = state_memory, sum(one.device == model.device for one, _ in copies)
        # Copies on one device see the same free memory: each takes its part of it.
        if sharing > 1:
            memory = max(1, memory_for_states(memory, model.device) // sharing)
        game = ModelGame(model, tokens, stack=stack, shape=shape, state_memory=memory)
        # The others get the shape of the first, so all replicas add in the same order.
        shape = game.shape
        games.append(game)
    return games[0] if len(games) == 1 else Replicas(games)


def _work(
    game: ModelGame,
    coalitions: Coalitions,
    sequences: Indices,
    waiting: "Queue[Indices]",
    done: "Queue[Block | BaseException | None]",
    stop: Event,
) -> None:
    """One replica's thread: take a part, observe it, take the next."""
    try:
        while not stop.is_set():
            rows = waiting.get_nowait()
            for block in game.observe(coalitions[rows], sequences):
                done.put(replace(block, rows=rows[block.rows]))
                if stop.is_set():
                    break
    except Empty:
        pass
    except BaseException as error:  # goes to the thread that asked
        done.put(error)
        return
    done.put(None)
