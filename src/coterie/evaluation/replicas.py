"""One game played on several devices: a replica of the model on each, coalitions divided between.

Coalitions are cut into subtrees of the trie of prefixes, a few for each replica, and whoever is
free takes the next: neighbours stay together, so little shared work is done twice.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from queue import Empty, Queue
from threading import Event, Thread
from time import perf_counter

import numpy as np

from coterie.evaluation.engine import ModelGame
from coterie.evaluation.planning import Spent
from coterie.evaluation.trie import parts, prefix_order
from coterie.game.coalitions import Block, Coalitions, Indices

PARTS_PER_REPLICA = 4
"""Subtrees for each replica: enough to even out their speeds, few enough to share prefixes."""


class Replicas:
    """Several copies of one game, on a device each, that answer together.

    Args:
        games: The same model and texts, each on its own device.

    Attributes:
        mode: That of the first replica.

    Raises:
        ValueError: There is no game, or they differ in players or texts.
    """

    def __init__(self, games: Sequence[ModelGame]) -> None:
        if len({(game.n_players, game.n_sequences, game.length) for game in games}) != 1:
            raise ValueError("replicas must be one or more games with the same players and texts")
        self.games = list(games)
        self.n_players, self.n_sequences = games[0].n_players, games[0].n_sequences
        self.mode, self.vocabulary = games[0].mode, games[0].vocabulary
        self._seconds = 0.0

    @property
    def spent(self) -> Spent:
        """What all replicas ran; seconds are those of the wall, not their sum."""
        total = sum((game.spent for game in self.games), Spent())
        return replace(total, seconds=self._seconds)

    @property
    def remarks(self) -> list[str]:
        """What went wrong on any of them."""
        return [remark for game in self.games for remark in game.remarks]

    def observe(self, coalitions: Coalitions, sequences: Indices) -> Iterator[Block]:
        """Observe distinct coalitions on distinct sequences, block by block, as soon as known."""
        coalitions = np.asarray(coalitions, dtype=bool)
        order = prefix_order(coalitions)
        waiting: Queue[Indices] = Queue()
        for part in parts(coalitions[order], PARTS_PER_REPLICA * len(self.games)):
            waiting.put(order[part])
        done: Queue[Block | BaseException | None] = Queue()
        stop = Event()
        workers = [
            Thread(target=_work, args=(game, coalitions, sequences, waiting, done, stop))
            for game in self.games
        ]
        began = perf_counter()
        for worker in workers:
            worker.start()
        try:
            yield from self._gathered(done, began)
        finally:  # the caller may have stopped, or a replica failed: let the others end
            stop.set()
            for worker in workers:
                worker.join()

    def _gathered(
        self, done: "Queue[Block | BaseException | None]", began: float
    ) -> Iterator[Block]:
        running = len(self.games)
        while running:
            got = done.get()
            self._seconds += perf_counter() - began
            if isinstance(got, BaseException):
                raise got
            if got is None:
                running -= 1
            else:
                yield got
            began = perf_counter()


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
