"""What a pruner must know of the inputs of linear maps, gathered while a layer runs.

A map is known by the memory of its weight: whatever a layer does, at some point it multiplies its
inputs with that memory. So one rule serves `nn.Linear`, `Conv1D`, kernels that take a weight out of
its module, and single experts of a fused tensor.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from coterie.errors import ModelError
from coterie.sparsity.levels import Need, Statistics
from coterie.sparsity.linears import LinearMap

# Names of torch functions, by the order in which they take input, weight and bias.
_INPUT_THEN_WEIGHT = frozenset(("linear", "matmul", "__matmul__", "mm", "bmm"))
_EITHER_FIRST = frozenset(("matmul", "__matmul__", "mm", "bmm"))
_BIAS_FIRST = frozenset(("addmm", "baddbmm"))


class InputWatch(TorchFunctionMode):
    """Inside this block, every product with the weight of a map adds to that map's statistics.

    Args:
        maps: The maps, whose weights must be in memory.
        need: What to gather.
    """

    def __init__(self, maps: Sequence[LinearMap], need: Need) -> None:
        super().__init__()
        self._sums = [_Sums(need) for _ in maps]
        # The experts of a fused parameter lie one behind the other in its memory.
        wholes = {found.parameter: found.whole for found in maps}
        starts = {name: tensor.data_ptr() for name, tensor in wholes.items()}
        self._maps: list[tuple[int, int, _Sums, int]] = []
        for found, sums in zip(maps, self._sums, strict=True):
            whole = wholes[found.parameter]
            size = found.weight.numel() * whole.element_size()
            start = starts[found.parameter] + size * (found.expert or 0)
            self._maps.append((start, start + size, sums, found.weight.shape[1]))
        # By address, so that the map of a product is found by bisection.
        self._maps.sort(key=lambda entry: entry[0])
        self._starts = [entry[0] for entry in self._maps]
        self._last: tuple[Tensor, Tensor] | None = None

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        """Look at the operands of products, and let the product be made.

        Args:
            func: What is called.
            types: Of its operands; not looked at.
            args: Its arguments by place.
            kwargs: Its arguments by name.
        """
        name = getattr(func, "__name__", "")
        offset = 0 if name in _INPUT_THEN_WEIGHT else 1 if name in _BIAS_FIRST else None
        if offset is not None:
            given, weight = _operands(args[offset:], kwargs or {})
            if isinstance(given, Tensor) and isinstance(weight, Tensor):
                self._look(given, weight)
                # Some kernels compute W x, with the weight first: its transpose is xᵀ Wᵀ.
                if name in _EITHER_FIRST and given.dim() > 1 and weight.dim() > 1:
                    self._look(weight.mT, given)
        return func(*args, **(kwargs or {}))

    def statistics(self) -> list[Statistics]:
        """What was gathered, map by map; it is given away."""
        return [sums.means() for sums in self._sums]

    def _look(self, given: Tensor, weight: Tensor) -> None:
        # A batched product holds one matrix per expert, and each expert is a map.
        if weight.dim() == 3 and given.dim() == 3 and len(weight) == len(given):
            for inputs, one in zip(given.detach(), weight.detach(), strict=True):
                self._look(inputs, one)
            return
        address = weight.data_ptr()
        at = bisect_right(self._starts, address) - 1
        if at < 0 or address >= self._maps[at][1]:
            return
        _, _, sums, width = self._maps[at]
        # Only products over the inputs of the map count, not those with its transpose.
        if given.shape[-1] == width:
            sums.add(given.detach().reshape(-1, width), self._gram)

    def _gram(self, inputs: Tensor) -> Tensor:
        """The sum of x xᵀ; maps that share an input (queries, keys, values) share the product."""
        if self._last is None or not _same(self._last[0], inputs):
            wide = _wide(inputs)
            self._last = (inputs, wide.T @ wide)
        return self._last[1]


class _Sums:
    def __init__(self, need: Need) -> None:
        self.need: Need = need
        self.rows = 0
        self.total: Tensor | None = None

    def add(self, inputs: Tensor, gram: Callable[[Tensor], Tensor]) -> None:
        self.rows += len(inputs)
        if self.need == "nothing" or not len(inputs):
            return
        new = gram(inputs) if self.need == "hessian" else _wide(inputs).square().sum(0)
        self.total = new.clone() if self.total is None else self.total.add_(new)

    def means(self) -> Statistics:
        """The sums become means where they lie, so that there is no second Hessian."""
        if self.total is None:
            return Statistics(self.rows)
        mean, self.total = self.total.div_(self.rows), None
        if self.need == "norms":
            return Statistics(self.rows, mean)
        return Statistics(self.rows, mean.diagonal(), mean)


def _wide(inputs: Tensor) -> Tensor:
    return inputs if inputs.dtype == torch.float64 else inputs.float()


def _same(one: Tensor, other: Tensor) -> bool:
    return (
        # The same memory in the same form, not written to since (`_version` counts writes).
        one.data_ptr() == other.data_ptr()
        and one.shape == other.shape
        and one.stride() == other.stride()
        and one._version == other._version
    )


def _operands(args: tuple[object, ...], kwargs: dict[str, object]) -> tuple[object, object]:
    """Input and weight of a product, however they were given."""
    names = (("input", "mat1", "batch1"), ("weight", "other", "mat2", "batch2"))
    found = list(args[:2])
    for place in range(len(found), 2):
        found.append(next((kwargs[name] for name in names[place] if name in kwargs), None))
    return found[0], found[1]


def checked_statistics(
    statistics: Sequence[Statistics], maps: Sequence[LinearMap], where: str
) -> None:
    """Refuse statistics that are no numbers.

    Args:
        statistics: Of each map.
        maps: The maps, in the same order.
        where: What their layer is called in the message.

    Raises:
        ModelError: Names the first map whose inputs are not finite.
    """
    for one, found in zip(statistics, maps, strict=True):
        if one.squares is not None and not bool(one.squares.isfinite().all()):
            raise ModelError(
                f"the inputs of {where}.{found.name} are not finite in this dtype: load the model"
                " in float32 (--dtype float32)"
            )


@contextmanager
def experts_one_by_one(maps: Sequence[LinearMap]) -> Iterator[None]:
    """Inside this block, fused experts are run one after the other, each with its own inputs."""
    configs = {
        id(config): config
        for found in maps
        if found.expert is not None
        and (config := getattr(found.owner, "config", None)) is not None
        and hasattr(config, "_experts_implementation")
    }
    before = {key: config._experts_implementation for key, config in configs.items()}
    try:
        for config in configs.values():
            # Grouped kernels make one product of all experts, in which none can be told apart.
            config._experts_implementation = "eager"
        yield
    finally:
        for key, config in configs.items():
            config._experts_implementation = before[key]
