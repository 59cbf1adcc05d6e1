"""Layers whose norms, gates and rotations run as one kernel each, while the walk runs them.

Nothing is assumed of a family: a module that looks like one of the three is tried on random
numbers, and only where the kernel gives what the module gives does it stand in for it. The model
itself is left as it is; the kernels stand in only inside `Fused`.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from sys import modules as imported
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from coterie.models.loaded.routing import Forward, patched
from coterie.models.tolerance import tolerance

ROTATION = "apply_rotary_pos_emb"
"""What transformers calls the function that applies rotary positions, in each family's module."""

TRIED = 4
"""Rows of random numbers that a kernel is tried on."""


class NothingToFuse(Exception):
    """No part of any layer is one that a kernel can stand in for."""


class Fused:
    """Calls layers with kernels in place of their norms, gates and rotations.

    Args:
        layers: The layers.

    Attributes:
        replaced: For each layer, what stands in for which of its modules.

    Raises:
        NothingToFuse: No part of them can be replaced.
    """

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        self.replaced: dict[nn.Module, dict[nn.Module, Forward]] = {}
        for layer in layers:
            found = {module: _stand_in(module) for module in layer.modules()}
            self.replaced[layer] = {m: forward for m, forward in found.items() if forward}
        self.rotations = _rotations(self.replaced)
        if not self.rotations and not any(self.replaced.values()):
            raise NothingToFuse("its layers have no norm, gate or rotation that a kernel knows")

    def __call__(
        self, layer: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> object:
        """Run a layer with the kernels in place."""
        try:
            for rotation in self.rotations:
                setattr(rotation.home, ROTATION, rotation.fused)
            with patched(self.replaced[layer]):
                return layer(*args, **kwargs)
        finally:
            # To the plain one, not to what was there: another thread may have put its own there.
            for rotation in self.rotations:
                setattr(rotation.home, ROTATION, rotation.plain)


@dataclass(frozen=True, eq=False)
class _Rotation:
    """The function of a family's module that rotates, as it is and by a kernel."""

    home: ModuleType
    plain: Callable[..., object]
    fused: Callable[..., object]


def _stand_in(module: nn.Module) -> Forward | None:
    """A forward that does by a kernel what the module does, or None where there is none."""
    # A module that cannot be tried is one that no kernel stands in for.
    with suppress(RuntimeError, TypeError, AttributeError, ValueError), torch.no_grad():
        if type(module).__name__.endswith("RMSNorm"):
            return _norm(module)
        if hasattr(module, "gate_proj") and hasattr(module, "act_fn"):
            return _gate(module)
    return None


def _norm(module: nn.Module) -> Forward | None:
    weights = list(module.parameters())
    epsilon = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    if len(weights) != 1 or weights[0].dim() != 1 or not isinstance(epsilon, float):
        return None
    weight, plain = weights[0], module.forward
    sample = torch.randn(TRIED, len(weight), dtype=weight.dtype, device=weight.device)
    expected = plain(sample)
    # Llama rounds before it scales; Gemma scales by one more than the weight, then rounds.
    kernels = [
        partial(_normed, module, added=added, late=late)
        for added, late in ((0.0, True), (0.0, False), (1.0, False))
    ]
    # Each kernel is compiled when it is first tried: one that rounds alike ends the search.
    gaps: dict[int, float] = {}
    for at, kernel in enumerate(kernels):
        gaps[at] = _gap(kernel(sample), expected)
        if gaps[at] <= torch.finfo(sample.dtype).eps * float(expected.float().abs().max()):
            break
    nearest = kernels[min(gaps, key=gaps.__getitem__)]
    if not _same(nearest(sample), expected):
        return None
    return partial(_norm_forward, plain, nearest, weight.dtype)


def _normed(module: nn.Module, x: Tensor, *, added: float, late: bool) -> Tensor:
    # The weight is asked for each time: what is streamed or moved is another tensor then.
    weight = next(module.parameters())
    epsilon = float(getattr(module, "variance_epsilon", getattr(module, "eps", 0.0)))
    return _kernels(x).normed(x, weight, epsilon, added=added, late=late)


def _norm_forward(
    plain: Forward, kernel: Callable[[Tensor], Tensor], dtype: torch.dtype, *args: Tensor
) -> object:
    if len(args) == 1 and args[0].is_contiguous() and args[0].dtype == dtype:
        return kernel(args[0])
    return plain(*args)


def _gate(module: nn.Module) -> Forward | None:
    gate, up, down = (getattr(module, f"{name}_proj") for name in ("gate", "up", "down"))
    if not all(isinstance(part, nn.Linear) for part in (gate, up, down)):
        return None
    plain = module.forward
    sample = torch.randn(
        1, TRIED, gate.in_features, dtype=gate.weight.dtype, device=gate.weight.device
    )
    forward = partial(_gate_forward, module)
    return forward if _same(forward(sample), plain(sample)) else None


def _gate_forward(module: nn.Module, x: Tensor) -> object:
    opened, up = module.gate_proj(x), module.up_proj(x)  # type: ignore[operator]
    return module.down_proj(_kernels(x).gate_times_up(opened, up))  # type: ignore[operator]


def _rotations(layers: Iterable[nn.Module]) -> list[_Rotation]:
    """The rotations that these layers look up in the modules of their families."""
    names = {type(module).__module__ for layer in layers for module in layer.modules()}
    homes = [imported[name] for name in names if hasattr(imported[name], ROTATION)]
    plain = [getattr(home, ROTATION) for home in homes]
    return [_Rotation(home, one, _rotating(one)) for home, one in zip(homes, plain, strict=True)]


def _rotating(plain: Callable[..., object]) -> Callable[..., object]:
    """The rotation of a family, by a kernel where that gives the same."""
    agrees: dict[tuple[torch.device, torch.dtype], bool] = {}

    def rotate(*args: object, **kwargs: object) -> object:
        if kwargs or len(args) != 4:
            return plain(*args, **kwargs)
        query, key, cosine, sine = args
        assert isinstance(query, Tensor) and isinstance(key, Tensor)
        assert isinstance(cosine, Tensor) and isinstance(sine, Tensor)
        if not _rotatable(query, key, cosine, sine):
            return plain(*args)
        rotated = _kernels(query).rotated
        mine = rotated(query, cosine, sine), rotated(key, cosine, sine)
        known = (query.device, query.dtype)
        if known not in agrees:  # the first call tells whether the kernel knows this rotation
            theirs = plain(*args)
            assert isinstance(theirs, tuple)
            agrees[known] = all(map(_same, mine, theirs))
        return mine if agrees[known] else plain(*args)

    return rotate


def _rotatable(query: Tensor, key: Tensor, cosine: Tensor, sine: Tensor) -> bool:
    if {query.dim(), key.dim()} != {4} or {cosine.dim(), sine.dim()} != {3}:
        return False
    width = query.shape[-1]
    table = (query.shape[2], width)
    return (
        cosine.shape == sine.shape
        and cosine.shape[1:] == table
        and key.shape[2:] == table
        and cosine.shape[0] in (1, query.shape[0])
        and width & (width - 1) == 0
        and query.stride(-1) == key.stride(-1) == 1
        and cosine.is_contiguous()
        and sine.is_contiguous()
        and query.dtype == key.dtype == cosine.dtype == sine.dtype
    )


def _same(found: object, expected: object) -> bool:
    if not isinstance(found, Tensor) or not isinstance(expected, Tensor):
        return False
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return False
    allowed = tolerance(found.dtype).entries * float(expected.float().abs().max())
    return _gap(found, expected) <= allowed


def _gap(found: Tensor, expected: object) -> float:
    assert isinstance(expected, Tensor)
    return float((found.float() - expected.float()).abs().max())


class _Plainly:
    """What the kernels do, by plain operations: what a processor runs."""

    @staticmethod
    def normed(x: Tensor, weight: Tensor, epsilon: float, *, added: float, late: bool) -> Tensor:
        value = x.float()
        value = value * torch.rsqrt(value.pow(2).mean(-1, keepdim=True) + epsilon)
        value = value.to(x.dtype).float() if late else value
        return (value * (weight.float() + added)).to(x.dtype)

    @staticmethod
    def gate_times_up(gate: Tensor, up: Tensor) -> Tensor:
        return silu(gate) * up

    @staticmethod
    def rotated(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=-1)
        turned = torch.cat([-second, first], dim=-1)
        return x * cosine.unsqueeze(1) + turned * sine.unsqueeze(1)


def _kernels(x: Tensor) -> type[_Plainly]:
    if x.device.type != "cuda":
        return _Plainly
    from coterie.engine.parts import layer_kernels

    return layer_kernels  # type: ignore[return-value]
