"""What pruning inside layers is made of: levels, what a pruner needs to know, and what it gives.

A level says how sparse a linear map becomes: a share of zeros, or an N:M pattern (N weights kept
of every M neighbours in a row). An allocation gives a level to every layer, or to single maps or
blocks of a layer by name:

    [0.5, 0.6, Pattern(2, 4), {"self_attn": 0.4, "mlp": 0.7}]
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from coterie.sparsity.bounds import SparsityError

# Help texts and checks read this module, so it must load without torch.
if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Pattern:
    """N:M sparsity: of every ``m`` neighbouring weights of a row, ``n`` stay.

    Raises:
        SparsityError: Not 1 <= n <= m.

    >>> share(Pattern.parse("2:8"))
    0.75
    """

    n: int
    m: int

    def __post_init__(self) -> None:
        if not 1 <= self.n <= self.m:
            raise SparsityError(f"pattern {self}: N of M weights stay, so 1 <= N <= M, as in 2:4")

    def __str__(self) -> str:
        return f"{self.n}:{self.m}"

    @classmethod
    def parse(cls, text: str) -> "Pattern":
        """From a text such as ``"2:4"``."""
        kept, colon, group = text.partition(":")
        # `int` alone would let signs, blanks and underscores through.
        if not colon or not kept.isdecimal() or not group.isdecimal():
            raise SparsityError(f"pattern {text!r} is not of the form N:M, such as 2:4")
        return cls(int(kept), int(group))


Level = float | Pattern
"""How sparse a map becomes: the share of zeros in [0, 1), or a pattern."""

LayerLevel = Level | Mapping[str, Level]
"""One level for all maps of a layer, or levels by name: of a map (``"mlp.up_proj"``), or of all
maps under it (``"mlp"``). The longest name that fits counts; a map no name fits stays dense."""

Allocation = Sequence[LayerLevel]
"""A level for every layer, in order."""


def share(level: Level) -> float:
    """The share of zeros a level asks for."""
    return 1 - level.n / level.m if isinstance(level, Pattern) else float(level)


Need = Literal["nothing", "norms", "hessian"]
"""What a pruner must know of the inputs of a map; each includes what stands before it."""

# In rising order: the diagonal of a Hessian holds the squares.
_NEEDS: tuple[Need, ...] = ("nothing", "norms", "hessian")


def more(one: Need, other: Need) -> Need:
    """The larger of two needs, which includes the smaller one."""
    return max(one, other, key=_NEEDS.index)


@dataclass(frozen=True, eq=False)
class Statistics:
    """What calibration texts say about the inputs x of one linear map.

    Attributes:
        rows: Number of inputs seen (tokens; of an expert, those routed to it).
        squares: Mean of x_j², ``(in,)``; None if the pruner needs none.
        hessian: Mean of x xᵀ, ``(in, in)``; None if the pruner needs none.
    """

    rows: int = 0
    squares: "Tensor | None" = None
    hessian: "Tensor | None" = None


@dataclass(frozen=True, eq=False)
class Pruned:
    """A weight with its zeros.

    Attributes:
        weight: ``(out, in)``, in the dtype and on the device of the weight that was given.
        damping: What was added to the diagonal of the Hessian, as a share of its mean, if one was.
    """

    weight: "Tensor"
    damping: float | None = None


class Pruner(Protocol):
    """Decides which weights of a linear map go, and what becomes of the others."""

    # Properties, so that frozen dataclasses, whose fields cannot be set, are pruners too.
    @property
    def name(self) -> str:
        """What the user calls it."""
        ...

    @property
    def title(self) -> str:
        """What it does, in a few words."""
        ...

    @property
    def paper(self) -> str | None:
        """Where it was published: an arXiv number."""
        ...

    @property
    def needs(self) -> Need:
        """What it must know of the inputs."""
        ...

    def prune(self, weight: "Tensor", statistics: Statistics, level: Level) -> Pruned:
        """The new weight ``(out, in)``.

        Args:
            weight: ``(out, in)``; left alone.
            statistics: What is known of its inputs.
            level: How sparse it becomes.
        """
        ...


@dataclass(frozen=True)
class PrunedMap:
    """What became of one linear map.

    Attributes:
        name: Inside its layer, such as ``"mlp.up_proj"`` or ``"mlp.experts.down_proj[3]"``.
        asked: Share of zeros asked for.
        zeros: Zeros it now has, those it had before included.
        weights: Entries in all.
        rows: Calibration inputs it was judged on; 0 if none reached it, or none were needed.
        damping: See `Pruned`.
    """

    name: str
    asked: float
    zeros: int
    weights: int
    rows: int
    damping: float | None = None

    @property
    def realised(self) -> float:
        """The share of zeros."""
        return self.zeros / self.weights


@dataclass(frozen=True, eq=False)
class PrunedLayer:
    """One layer with its zeros.

    Attributes:
        layer: Its number.
        tensors: New weights by the parameter's name inside the layer, shaped as the parameter.
            Parameters that stay as they are, are not among them.
        maps: What became of each linear map, the dense ones included.
    """

    layer: int
    tensors: "dict[str, Tensor]"
    maps: tuple[PrunedMap, ...]

    @property
    def realised(self) -> float:
        """The share of zeros among the weights of all linear maps."""
        # Over all weights, so that large maps count for more than small ones.
        return sum(one.zeros for one in self.maps) / sum(one.weights for one in self.maps)
