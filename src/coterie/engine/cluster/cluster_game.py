"""One game played by the workers of a cluster; the driver keeps a copy for what is no question."""

from collections.abc import Iterator
from dataclasses import replace
from time import perf_counter

import numpy as np
from transformers import PreTrainedModel

from coterie.engine.batch_shape import BatchShape
from coterie.engine.batches import Batches
from coterie.engine.cluster.account import CrewAccount
from coterie.engine.cluster.crew import Crew, CrewQuestion
from coterie.engine.cluster.dispatch import Dispatch
from coterie.engine.cluster.limits import Limits
from coterie.engine.cost import Spent
from coterie.engine.interface import CutProof, DiskTraffic, Engine, Seconds
from coterie.engine.model_game import COALITIONS_AT_ONCE
from coterie.engine.question import question
from coterie.game.coalitions import Block, Coalition, Coalitions, Game, Indices
from coterie.models.loaded.stack import Stack

PARTS_AT_ONCE = 4
"""Questions of one machine, for each worker, that are asked of a cluster at once."""


class ClusterGame:
    """A game whose questions the workers of a crew answer.

    Args:
        local: The same model and texts on the driver: what is proved, checked and timed there.
        crew: The workers; the game was opened on them.
        number: Of the texts, as the crew knows them.
        account: Of the crew, over all texts.
        limits: How long workers may take.

    Attributes:
        spent: What workers ran for this game; seconds are wall-clock time of the driver.
        remarks: Coalitions without a finite loss, and what went wrong with workers.
    """

    def __init__(
        self, local: Engine, crew: Crew, number: int, account: CrewAccount, limits: Limits
    ) -> None:
        self.local, self.crew, self.number = local, crew, number
        self.account, self.limits = account, limits
        self.spent, self.remarks = Spent(), list(local.remarks)
        self._passes = 0

    # What is played, and how it is played: as on one machine.
    @property
    def n_players(self) -> int:
        """Number of players, locked or not."""
        return self.local.n_players

    @property
    def n_sequences(self) -> int:
        """Number of texts."""
        return self.local.n_sequences

    @property
    def model(self) -> PreTrainedModel:
        """The driver's own model."""
        return self.local.model

    @property
    def stack(self) -> Stack:
        """The players."""
        return self.local.stack

    @property
    def vocabulary(self) -> int:
        """Number of token ids the model knows."""
        return self.local.vocabulary

    @property
    def length(self) -> int:
        """Tokens of a text."""
        return self.local.length

    @property
    def mode(self) -> str:
        """How coalitions are evaluated."""
        return self.local.mode

    @property
    def shape(self) -> BatchShape:
        """How much is computed at once, by every worker."""
        return self.local.shape

    @property
    def batches(self) -> Batches | None:
        """The driver's model taken apart, where its weights are read from disk."""
        return self.local.batches

    @property
    def traffic(self) -> DiskTraffic | None:
        """What reading weights from disk took on all machines; None where they are in memory."""
        mine = self.local.traffic
        if mine is None:
            return None
        read = sum(did.bytes_read for did in self.account.workers.values())
        return replace(mine, passes=mine.passes + self._passes, bytes_read=mine.bytes_read + read)

    @property
    def pass_bytes(self) -> int:
        """Bytes that every question reads from disk on each worker."""
        return self.local.pass_bytes

    @property
    def at_once(self) -> int:
        """Workers that share the work now."""
        return max(1, len(self.crew.members()))

    def questions(self, coalitions: Coalitions) -> list[Coalitions]:
        """Groups large enough for all workers; neighbours stay together."""
        if self.limits.whole:
            return [coalitions]
        each = COALITIONS_AT_ONCE * PARTS_AT_ONCE * self.at_once
        return np.array_split(coalitions, max(1, len(coalitions) // each))

    # What the driver does itself.
    def seconds(self) -> Seconds:
        """Time of one coalition on the driver; on all workers it is this divided by `at_once`."""
        return self.local.seconds()

    def memory_bytes(self, coalitions: Coalitions) -> int:
        """Bytes on a device of each worker while these are observed."""
        return self.local.memory_bytes(coalitions)

    def check_layers(self) -> None:
        """Check the driver's own layers; those of workers have the same weights.

        Raises:
            NotReplayable: The layers differ from those in the model.
            TailNotFound: What follows the last layer cannot be run apart.
        """
        self.local.check_layers()

    def proof(self, coalition: Coalition, game: Game) -> CutProof:
        """What a cut checkpoint must do, by the driver's own model.

        Args:
            coalition: The players that stay, ``(n_players,)``.
            game: This engine, or what remembers its observations.
        """
        return self.local.proof(coalition, game)

    def observe(self, coalitions: Coalitions, sequences: Indices) -> Iterator[Block]:
        """Observe distinct coalitions on distinct sequences, block by block, as soon as known.

        A block's seconds are wall-clock time since the block before it.

        Raises:
            MachineError: no worker is left, or all fail on the same coalitions.
        """
        asked = question(coalitions, sequences, self.n_players, self.n_sequences)
        if asked.empty:
            return
        put = CrewQuestion(self.number, asked.ordered, asked.sequences)
        dispatch = Dispatch(self.crew, put, self.account, self.limits, self.remarks)
        began, before, passes = perf_counter(), self.account.spent(), self.account.passes()
        for block in dispatch.blocks():
            seconds = perf_counter() - began
            now, passed = self.account.spent(), self.account.passes()
            ran = replace(now - before, seconds=seconds)
            self.spent, self._passes = self.spent + ran, self._passes + passed - passes
            before, passes = now, passed
            yield replace(block, rows=asked.order[block.rows], seconds=seconds)
            began = perf_counter()
