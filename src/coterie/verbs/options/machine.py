"""Where a model runs, in which number format, and in how much memory."""

from dataclasses import dataclass
from typing import Annotated, Protocol

from coterie.errors import UserError
from coterie.plain import Json
from coterie.verbs.options.declare import Option, Options
from coterie.verbs.options.forms import BYTES, CLUSTER


@dataclass(frozen=True, kw_only=True)
class Device(Options):
    """Where a model runs."""

    # No choices listed: devices are resolved by torch, which is not imported here.
    device: Annotated[str, Option("--device", "NAME", "auto, cuda, mps or cpu.")] = "auto"

    @property
    def names_several(self) -> bool:
        """Whether a list of devices is asked for."""
        # One rule for both spellings of "more than one".
        return "," in self.device or self.device == "cuda:all"

    @property
    def first_device(self) -> str:
        """The first of several devices; the one that is asked for elsewhere."""
        return "cuda:0" if self.device == "cuda:all" else self.device.split(",")[0].strip()


@dataclass(frozen=True, kw_only=True)
class Dtype(Options):
    """In which number format a model computes during a search."""

    dtype: Annotated[
        str,
        Option(
            "--dtype",
            "NAME",
            "Of the search only: auto, float32, bfloat16. The checkpoint keeps its own.",
        ),
    ] = "auto"


@dataclass(frozen=True, kw_only=True)
class FromDisk(Options):
    """Whether a repair reads the full model layer by layer."""

    stream: Annotated[
        bool,
        Option(
            "--stream",
            "",
            "For a model larger than memory: read its layers from disk, one after the other; of "
            "weights two layers are in memory, beside the states of the text and sums of the "
            "widest fit (told beforehand). Changed weights wait in temporary files. The checkpoint "
            "is proved by its losses, read the same way.",
        ),
    ] = False

    def as_json(self) -> dict[str, Json]:
        """What was asked as plain JSON; nothing of streaming where it is not asked for."""
        whole = super().as_json()
        if not self.stream:  # older records stay equal
            del whole["stream"]
        return whole


SEVERAL_DEVICES = (
    "auto, cuda, mps or cpu; or several, cuda:0,cuda:1 or cuda:all, that share the coalitions out: "
    "each holds the whole model, its parameters × bytes of --dtype."
)
"""Help of `--device` where several may be named."""


@dataclass(frozen=True, kw_only=True)
class Memory(Options):
    """How much memory a game may take; and a name to resume its study by."""

    # A name is only needed to go on with a study as it was begun.
    study: Annotated[
        str | None,
        Option("--study", "NAME", "Name a study, to be resumed as it was begun."),
    ] = None
    # Half of free memory leaves the other half to weights and activations.
    state_memory: Annotated[
        int | None,
        Option(
            "--state-memory",
            "BYTES",
            "Memory that live states may take: 500M, 8G. Default: half of what is free.",
            form=BYTES,
            above=0,
        ),
    ] = None
    stream: Annotated[
        bool,
        Option(
            "--stream",
            "",
            "For a model larger than memory: read its layers from disk, each once for all "
            "coalitions of a question; the model is never whole, and the cut one is proved the "
            "same way. Methods that ask in many small questions (`greedy`, `guided`) read all "
            "layers for each; `--method paper` asks at once. What a pass observes is kept when it "
            "ends. Not for most mixtures of experts (Mixtral, Qwen MoE, DeepSeek): transformers "
            "merges their experts as it loads them.",
        ),
    ] = False


@dataclass(frozen=True, kw_only=True)
class Cluster(Options):
    """Whether the machines of a Ray cluster play, and what each worker takes of them."""

    # Neither decides the answer, so records and identities do without them.
    cluster: Annotated[
        str | None,
        Option(
            "--cluster",
            "ADDRESS",
            "Let the workers of a Ray cluster observe coalitions: `auto`, the cluster of this "
            "machine, or HOST:PORT. One for each GPU, or see --worker-cpus. Needs the extra "
            "`cluster`.",
            form=CLUSTER,
            recorded=False,
        ),
    ] = None
    worker_cpus: Annotated[
        int | None,
        Option(
            "--worker-cpus",
            "N",
            "Processors of each worker. Default: those of the smallest node; beside a GPU, 1.",
            above=0,
            recorded=False,
        ),
    ] = None


class OnCluster(Protocol):
    """A request that may name a cluster."""

    @property
    def cluster(self) -> str | None:
        """Its address."""

    @property
    def worker_cpus(self) -> int | None:
        """Processors of a worker."""


def check_cluster(asked: OnCluster) -> None:
    """Refuse a cluster that cannot be reached, before anything is loaded.

    Raises:
        UserError: Ray is not installed, the address is none, or nobody answers there.
    """
    if asked.cluster is None:
        if asked.worker_cpus is not None:
            raise UserError("--worker-cpus goes with --cluster: give both, or neither")
        return
    # Imported when a cluster is asked for.
    from coterie.engine.cluster.connect import check_reachable

    check_reachable(asked.cluster)


def check_one_device(device: Device, why: str) -> None:
    """Refuse several devices where one is used.

    Args:
        device: What was asked.
        why: What uses one alone, and what it does with it: the middle of a sentence.

    Raises:
        UserError: several are named.
    """
    # Each verb says itself why it uses one; the rule and the way out are the same.
    if device.names_several:
        raise UserError(
            f"--device {device.device} names several devices, and {why}: name one of them"
        )


def check_stream(stream: bool, players: str) -> None:
    """Refuse to stream what is not a whole layer.

    Args:
        stream: Whether layers are read from disk.
        players: The kind of player.

    Raises:
        UserError: players are blocks of layers.
    """
    # A block of a layer would read the whole layer from disk for half of its work.
    if stream and players != "layer":
        raise UserError(f"--stream plays whole layers: leave out --players {players}")
