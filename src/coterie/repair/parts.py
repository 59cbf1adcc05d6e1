"""The parts of a layer, and the linear maps with which each writes to the state.

A layer is its attention block followed by its feed-forward block where running the two in turn, the
other one silent, gives what the layer gives; else it is one part. A writer is a matrix whose output
a part adds to the state, as it is, times a number, or through a norm of its own (Gemma): which
matrices do is not read off names but tried. A matrix whose output something else reads, a gate
multiplies, or only some tokens reach (experts) is no writer.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from coterie.engine.parts.layers import leading
from coterie.errors import ModelError, RepairError
from coterie.models.loaded.blocks import blocks_of
from coterie.models.loaded.routing import Forward, patched, zero_output

Run = Callable[[Tensor], Tensor]
"""Applies a layer to the states of a few texts."""

_TIGHT, _COARSE = 1e-3, 0.1
"""How far a part may be from adding what its writer gives: in float32, and in half precision."""


@dataclass(frozen=True, eq=False)
class Writer:
    """A linear map whose output a part adds to the state.

    Attributes:
        name: In its layer, such as ``"mlp.down_proj"``.
        module: The map.
        factor: What its output is multiplied by when it is added.
        norm: The norm that its output goes through first, where there is one.
        norm_name: The norm's name in the layer.
    """

    name: str
    module: "nn.Linear | Conv1D"
    factor: float
    norm: nn.Module | None = None
    norm_name: str = ""

    @property
    def columns(self) -> int:
        """Inputs of the map, one more where it has a bias."""
        inputs = self.module.weight.shape[0 if isinstance(self.module, Conv1D) else 1]
        return int(inputs) + (self.module.bias is not None)

    @property
    def width(self) -> int:
        """Outputs of the map."""
        return int(self.module.weight.shape[1 if isinstance(self.module, Conv1D) else 0])


@dataclass(frozen=True, eq=False)
class LayerPiece:
    """A layer, or one of its blocks with the other one silent.

    Attributes:
        layer: The number of the layer.
        silent: The modules that add nothing while it runs.
        writers: What it writes with, none where no linear map is added to the state.
    """

    layer: int
    silent: tuple[nn.Module, ...]
    writers: tuple[Writer, ...]

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Inside, the layer is this part of it."""
        with patched({module: zero_output(module) for module in self.silent}):
            yield


@torch.no_grad()
def parts_of(layer: nn.Module, number: int, run: Run, states: Tensor) -> tuple[LayerPiece, ...]:
    """The parts of a layer in the order they run.

    Args:
        layer: The module.
        number: Which layer of its stack it is.
        run: Applies it to states.
        states: States of a few texts that enter it, ``(n, length, width)``.

    Raises:
        RepairError: What it hands on is no number.
    """
    whole = run(states.clone())
    if not bool(whole.isfinite().all()):
        raise RepairError(
            f"what layer {number} hands on is not finite in {whole.dtype}: load the model in"
            " float32 (--dtype float32)"
        )
    silent = _in_turn(layer, run, states, whole) or ((),)
    parts, entering = [], states
    for modules in silent:
        with patched({module: zero_output(module) for module in modules}):
            parts.append(LayerPiece(number, modules, _writers(layer, run, entering)))
            entering = run(entering.clone())
    return tuple(parts)


def _in_turn(
    layer: nn.Module, run: Run, states: Tensor, whole: Tensor
) -> tuple[tuple[nn.Module, ...], ...] | None:
    """What is silent in each of two parts, if the layer is its blocks one after the other."""
    try:
        attention, mlp = blocks_of(layer, "sublayer", "")
    except ModelError:
        return None
    state = states
    try:
        for other in (mlp, attention):
            with patched({other: zero_output(other)}):
                state = run(state.clone())
    except (RuntimeError, TypeError, ValueError, AttributeError):
        return None  # a block whose return value we do not know how to imitate
    same = (state - whole).norm() <= _room(whole) * (whole - states).norm()
    return ((mlp,), (attention,)) if bool(same) else None


def _writers(layer: nn.Module, run: Run, states: Tensor) -> tuple[Writer, ...]:
    calls = _calls(layer, run, states)
    trial = _Trial(run, states, run(states.clone()))
    found = []
    for name, module in layer.named_modules():
        if not isinstance(module, nn.Linear | Conv1D) or len(calls.get(module, [])) != 1:
            continue
        output = calls[module][0][1]
        if output.numel() != states.numel() or not module.weight.is_floating_point():
            continue
        factor = trial.added(module, output)
        if factor is not None:
            found.append(Writer(name, module, factor))
            continue
        normed = _through_norm(layer, output, calls, trial)
        if normed is not None:
            found.append(Writer(name, module, *normed))
    return tuple(found)


def _calls(
    layer: nn.Module, run: Run, states: Tensor
) -> dict[nn.Module, list[tuple[Tensor, Tensor]]]:
    """What every module of the layer is given and gives in one run."""
    calls: dict[nn.Module, list[tuple[Tensor, Tensor]]] = {}

    def watch(module: nn.Module, args: tuple[object, ...], output: object) -> None:
        if args and isinstance(args[0], Tensor) and isinstance(output, Tensor):
            calls.setdefault(module, []).append((args[0], output.detach().clone()))

    handles = [module.register_forward_hook(watch) for module in layer.modules()]
    try:
        run(states.clone())
    finally:
        for handle in handles:
            handle.remove()
    return calls


@dataclass(frozen=True, eq=False)
class _Trial:
    """A part on some states, to be run again with the output of one module pushed about.

    Attributes:
        run: Applies the part.
        states: What enters it.
        plain: What it hands on.
    """

    run: Run
    states: Tensor
    plain: Tensor

    def added(self, module: nn.Module, output: Tensor) -> float | None:
        """The factor with which a module's output is added to the state; None if it is not."""
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(output.shape, generator=generator).to(output)
        push = noise * self.plain.float().square().mean().sqrt().to(output)

        def pushed(forward: Forward) -> Forward:
            return lambda *args, **kwargs: leading(forward(*args, **kwargs)) + push

        with patched({module: pushed(module.forward)}):
            moved = (self.run(self.states.clone()) - self.plain).float()
        given = push.float().view_as(moved)
        factor = float((moved * given).sum() / given.square().sum())
        # Held against what moved: what hardly moves the state is no writer, near to nothing or not.
        off, size = (moved - factor * given).norm(), moved.norm()
        # Some keep the state in float32 and write to it in half precision (Mamba).
        room = max(_room(self.plain), _room(output))
        added = abs(factor) > 1e-3 and bool(off <= room * size)
        return _tidy(factor) if added else None


def _through_norm(
    layer: nn.Module,
    output: Tensor,
    calls: dict[nn.Module, list[tuple[Tensor, Tensor]]],
    trial: _Trial,
) -> tuple[float, nn.Module, str] | None:
    """The norm that a map's output goes through before it is added, with its factor and name."""
    for name, norm in layer.named_modules():
        given = calls.get(norm, [])
        weight = getattr(norm, "weight", None)
        if len(given) != 1 or not isinstance(weight, Tensor) or weight.dim() != 1:
            continue
        inputs, normed = given[0]
        if inputs.shape != output.shape or not torch.equal(inputs, output):
            continue
        factor = trial.added(norm, normed)
        if factor is not None and _is_rms(inputs, normed):
            return factor, norm, name
    return None


def _is_rms(inputs: Tensor, normed: Tensor) -> bool:
    unit = unit_rms(inputs.float())
    gains = gains_of(unit, normed.float())
    return bool((normed - unit * gains).norm() <= 0.02 * normed.norm())


def unit_rms(states: Tensor) -> Tensor:
    """Each vector divided by its root mean square."""
    return states * states.square().mean(dim=-1, keepdim=True).clamp_min(1e-12).rsqrt()


def gains_of(unit: Tensor, normed: Tensor) -> Tensor:
    """The gains ``(width,)`` of a root-mean-square norm: what it was given against what it gave."""
    axes = tuple(range(unit.dim() - 1))
    return (unit * normed).sum(axes) / unit.square().sum(axes).clamp_min(1e-12)


def _tidy(factor: float) -> float:
    return 1.0 if abs(factor - 1) < 5e-3 else factor


def _room(states: Tensor) -> float:
    return _TIGHT if states.dtype in (torch.float32, torch.float64) else _COARSE
