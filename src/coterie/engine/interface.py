"""What every engine can do: observe coalitions of one model on some texts, and say what it takes.

`ModelGame` has the model in memory, `Replicas` a copy of it on each of several devices, and
`StreamedGame` reads it from disk layer by layer. Whoever plays them need not know which it is.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from transformers import PreTrainedModel

from coterie.engine.batch_shape import BatchShape
from coterie.engine.batches import Batches
from coterie.engine.cost import Spent
from coterie.game.coalitions import Coalition, Coalitions, Game
from coterie.models.loaded.stack import Stack
from coterie.plain import Json

PROVED_SEQUENCES = 2
"""Texts on which a checkpoint that was written must do what was measured before."""


class Seconds(NamedTuple):
    """How long one coalition takes on all texts: each layer it keeps, and everything else."""

    layer: float
    rest: float


@dataclass(frozen=True)
class DiskTraffic:
    """What reading the weights from disk took so far.

    Games of one model on several texts share the account of what is read, and each counts its own
    passes and spilled bytes.

    Attributes:
        passes: How many times questions have gone through the layers on disk.
        bytes_spilled: Bytes of states that main memory could not hold, written to files.
        bytes_read: Of the checkpoint's files.
        seconds_reading: Time in which files were read.
        seconds_waiting: The part of it that computing did not hide.
        checked: What was compared with the model's own forward, and how near it came.
    """

    passes: int
    bytes_spilled: int
    bytes_read: int
    seconds_reading: float
    seconds_waiting: float
    checked: str


class CutProof(Protocol):
    """What a cut checkpoint must do, measured before it is written; it holds no model."""

    def check(self, folder: Path, *, trust_remote_code: bool) -> dict[str, Json]:
        """Read the written checkpoint back and compare it with what was measured.

        Returns:
            For the record: a sentence under ``summary``, and the differences found.

        Raises:
            VerificationError: it does something else, or cannot be read.
        """
        ...


class Engine(Game, Protocol):
    """A game whose players are the layers, or blocks of layers, of a language model."""

    # What is played: the model, its players and the texts.
    @property
    def model(self) -> PreTrainedModel:
        """The model; without weights where these are read from disk."""
        ...

    @property
    def stack(self) -> Stack:
        """The players."""
        ...

    @property
    def vocabulary(self) -> int:
        """Number of token ids the model knows."""
        ...

    @property
    def length(self) -> int:
        """Tokens of a text."""
        ...

    # How it is played, and what that has cost.
    @property
    def mode(self) -> str:
        """How coalitions are evaluated, in a few words."""
        ...

    @property
    def shape(self) -> BatchShape:
        """How much is computed at once."""
        ...

    @property
    def spent(self) -> Spent:
        """What has really run so far."""
        ...

    @property
    def remarks(self) -> list[str]:
        """What went wrong without stopping anything, one line each."""
        ...

    # Where the weights are on disk; engines in memory answer None or 0.
    @property
    def batches(self) -> Batches | None:
        """The model taken apart, its weights read from disk; None where they are in memory."""
        ...

    @property
    def traffic(self) -> DiskTraffic | None:
        """What reading weights from disk took so far; None where they are in memory."""
        ...

    @property
    def pass_bytes(self) -> int:
        """Bytes that every question reads from disk; 0 where the weights are in memory."""
        ...

    @property
    def at_once(self) -> int:
        """Number of devices that share the work."""
        ...

    # What to ask at once, and what it will take.
    def questions(self, coalitions: Coalitions) -> list[Coalitions]:
        """Divide sorted coalitions into groups, each to be observed by one call."""
        ...

    def seconds(self) -> Seconds:
        """Measure how long a coalition takes; what is observed for it is thrown away."""
        ...

    def memory_bytes(self, coalitions: Coalitions) -> int:
        """Bytes that weights and states take at most on a device while these are observed."""
        ...

    # Whether what the engine measures can be believed.
    def check_layers(self) -> None:
        """Compare every whole layer, run on its own, with the model's own forward.

        Raises:
            NotReplayable: they differ, so no result that runs them on their own can be trusted.
            TailNotFound: what follows the last layer cannot be run on its own.
        """
        ...

    def proof(self, coalition: Coalition, game: Game) -> CutProof:
        """What a checkpoint cut to a coalition must do.

        Args:
            coalition: The players that stay, ``(n_players,)``.
            game: This engine, or what remembers its observations.
        """
        ...
