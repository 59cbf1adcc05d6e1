"""Parts that records of several commands have: the model, texts, the cut, sizes.

Layers and players count from 0; where players are blocks of layers, their labels (`3.attention`)
stand beside the numbers.
"""

from dataclasses import dataclass

from coterie.report.schema.part import Part


@dataclass(frozen=True)
class ModelPart(Part):
    """The model as it came."""

    # Where it came from, and which weights it really holds.
    name: str
    hub_id: str | None
    revision: str | None
    fingerprint: str
    architecture: str
    stack: str
    players: int
    player_kind: str
    """What a player is: layer, attention, mlp, or sublayer (either block)."""
    locked: dict[str, str]
    """Labels of the players that cannot go, with the reason."""
    dtype: str


@dataclass(frozen=True)
class TextPart(Part):
    """A set of sequences."""

    # Enough to draw the very same sequences again.
    description: str
    sha256: str
    sequences: int
    length: int
    documents: int
    bos: bool


@dataclass(frozen=True)
class ClosestPart(Part):
    """The closest call: the lowest contribution kept against the highest one cut."""

    kept: int
    removed: int
    difference: float
    error: float
    """Standard error of the difference, both sources, taking the two players as independent."""


@dataclass(frozen=True)
class CutPart(Part):
    """The decision: numbers of players, and the labels of the same players."""

    # Numbers for scripts, labels for people.
    removed: list[int]
    kept: list[int]
    removed_labels: list[str]
    kept_labels: list[str]
    closest: ClosestPart | None
    """Null where finalists were compared directly: see the choice."""


@dataclass(frozen=True)
class SizePart(Part):
    """Weights before and after."""

    # Parameters are counted, bytes are those of the files.
    parameters_before: int
    parameters_after: int
    bytes_before: int
    bytes_after: int


@dataclass(frozen=True)
class StreamPart(Part):
    """The cost of reading the layers from disk instead of keeping them in memory."""

    # What was read; then what it took.
    passes: int
    """Times the layers were read from first to last, on whatever texts."""
    bytes_read: int
    """Bytes read from disk, the preparation included."""
    bytes_per_coalition: float
    bytes_spilled: int
    """States that memory had no room for, written to files."""
    seconds_reading: float
    seconds_waiting: float
    """The part of reading that computing did not hide."""
    checked: str
    """What was compared with the model's own forward."""


@dataclass(frozen=True)
class ServingPart(Part):
    """How one runtime reads the checkpoint."""

    runtime: str
    reads: str
    """`rightly`, `wrongly`, or `not run`."""
    remark: str | None = None
    """On what condition, or why not."""
