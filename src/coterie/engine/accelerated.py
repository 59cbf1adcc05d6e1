"""What makes a walk faster on a GPU; each part is tried before it is used, and can be turned off.

A part that fails, or that gives other observations than the walk without it, is not used, and the
report says so. The environment variable ``COTERIE_GPU`` names the parts to try, or ``none``.
"""

import logging
import os
from collections.abc import Callable, Sequence
from time import perf_counter

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from coterie.engine.cost import Spent
from coterie.engine.fused import Fused, NothingToFuse
from coterie.engine.memory import free_bytes, is_out_of_memory
from coterie.engine.parts.layers import Apply, LayerStack, Prelude
from coterie.engine.parts.one_pass import rows_read_plainly
from coterie.engine.walk import Walker
from coterie.errors import UserError
from coterie.game.coalitions import Coalitions, Observations
from coterie.game.prefixes import prefix_order
from coterie.models.tolerance import tolerance

log = logging.getLogger(__name__)

VARIABLE = "COTERIE_GPU"
"""The environment variable that names the parts to try."""

WORTH_IT = 0.98
"""A fused or compiled layer is used where it takes no more than this share of the time before."""


class Unsuitable(Exception):
    """A part would work and gains nothing here; says why."""


def parts_asked(device: torch.device) -> tuple[str, ...]:
    """The parts to try on a device: those that the environment names, or the usual ones.

    Raises:
        UserError: A name is not known.
    """
    asked = os.environ.get(VARIABLE)
    if asked is None:
        return USUAL if device.type == "cuda" else ()
    names = [name.strip() for name in asked.split(",")]
    names = [name for name in names if name not in ("", "none")]
    for name in names:
        if name not in PARTS:
            raise UserError(
                f"{VARIABLE} is {asked!r}, and {name!r} is no part that makes a GPU faster: name"
                f" some of {', '.join(PARTS)}, with commas between them, or none"
            )
    return tuple(names)


def accelerate(
    walker: Walker,
    tokens: Tensor,
    coalitions: Coalitions,
    names: Sequence[str],
    dtype: torch.dtype,
) -> list[str]:
    """Turn on each named part that works and changes no observation beyond rounding.

    Args:
        walker: What is to be faster.
        tokens: A few texts to try on, ``(n_sequences, length)``.
        coalitions: What to observe on them, ``(n_coalitions, n_players)``.
        names: Of `PARTS`.
        dtype: Of the model; it says how much rounding may do.

    Returns:
        A line for each part that failed, and why.
    """
    if not names:
        return []
    trial = Walker(walker.layers, walker.head, tokens, walker.shape, Spent(), kl=walker.kl)
    ordered = coalitions[prefix_order(coalitions)]
    expected = _observed(trial, ordered)
    remarks = []
    for name in names:
        began = perf_counter()
        problem = _problem(trial, PARTS[name], ordered, expected, dtype)
        took = perf_counter() - began
        log.info("%s: %s, tried in %.1f s", name, problem or "used", took)
        if problem is not None and not isinstance(problem, Unsuitable):
            remarks.append(
                f"the part {name!r} that makes a GPU faster is not used: {problem}; results are the"
                " same without it"
            )
    # Layers are shared, so a compiled layer is in both walkers already.
    walker.ahead, walker.batches.rows_read = trial.ahead, trial.batches.rows_read
    return remarks


def _problem(
    trial: Walker,
    part: Callable[[Walker], None],
    ordered: Coalitions,
    expected: Observations,
    dtype: torch.dtype,
) -> object | None:
    """Turn a part on and observe with it; where something is wrong, turn it off and say what."""
    before = trial.ahead, trial.batches.rows_read, _apply_of(trial)
    problem: object | None = None
    try:
        part(trial)
        gap = _difference(_observed(trial, ordered), expected)
        if not gap <= tolerance(dtype).reordered_nats:
            problem = f"its observations differ by {gap:.2g} nats"
    except Unsuitable as reason:
        problem = reason
    # Whatever a compiler or a kernel raises costs the part, and not the run.
    except Exception as error:
        if is_out_of_memory(error):
            problem = "memory does not suffice for it"
        else:
            said = str(error).strip().splitlines() or [""]
            problem = f"{type(error).__name__}: {said[0][:200]}"
            log.debug("a part failed", exc_info=True)
    if problem is not None:
        trial.ahead, trial.batches.rows_read, apply = before
        if isinstance(trial.layers, LayerStack) and apply is not None:
            trial.layers.apply = apply
    return problem


def _apply_of(walker: Walker) -> Apply | None:
    return walker.layers.apply if isinstance(walker.layers, LayerStack) else None


def _observed(walker: Walker, ordered: Coalitions) -> Observations:
    seen = Observations.empty(len(ordered), len(walker.tokens))
    everything = np.arange(len(walker.tokens))
    for block in walker.observe(ordered, everything, free_bytes(walker.device)):
        corner = np.ix_(block.rows, block.columns)
        seen.nll[corner], seen.kl[corner] = block.observations.nll, block.observations.kl
    return seen


def _difference(found: Observations, expected: Observations) -> float:
    """Largest difference in nats; NaN where one is finite and the other is not."""
    worst = 0.0
    for mine, other in ((found.nll, expected.nll), (found.kl, expected.kl)):
        same = (mine == other) | (np.isnan(mine) & np.isnan(other))
        with np.errstate(invalid="ignore"):
            gaps = np.where(same, 0.0, np.abs(mine - other))
        worst = max(worst, float(gaps.max())) if not np.isnan(gaps).any() else np.nan
    return worst


def _run_ahead(walker: Walker) -> None:
    """The next block is handed to the device before this one is waited for."""
    walker.ahead = 1


def _read_in_one_pass(walker: Walker) -> None:
    """Logits are read once, as the projection wrote them."""
    if walker.batches.reading_device.type == "cuda":
        from coterie.engine.parts.row_kernel import rows_read

        walker.batches.rows_read = rows_read
    else:
        walker.batches.rows_read = rows_read_plainly


def _fuse_layers(walker: Walker) -> None:
    """Norms, gates and rotations of layers run as one kernel each."""
    layers = _layers_of(walker)
    try:
        _call_by(Fused(layers.stack.layers), layers, walker)
    except NothingToFuse as reason:
        raise Unsuitable(str(reason)) from reason


def _compile_layers(walker: Walker) -> None:
    """Layers run as compiled code, one for all layers of a class."""
    _call_by(compiled(), _layers_of(walker), walker)


def _layers_of(walker: Walker) -> LayerStack:
    layers = walker.layers
    if not isinstance(layers, LayerStack) or layers.weights is not None:
        raise Unsuitable("blocks of layers, and layers read from files, run as they are")
    return layers


def _call_by(apply: Apply, layers: LayerStack, walker: Walker) -> None:
    """Call layers in another way, where that is faster."""
    prelude = layers.prelude(walker.tokens[:1])
    state = prelude.embedded.repeat(walker.shape.rows, 1, 1)
    before = _seconds(layers, prelude, state)
    layers.apply = apply
    after = _seconds(layers, prelude, state)
    said = f"a layer takes {before * 1e3:.2f} ms, in this way {after * 1e3:.2f} ms"
    if state.device.type == "cuda" and after > WORTH_IT * before:
        raise Unsuitable(said)
    log.info(said)


def compiled() -> Apply:
    """A way to call layers as compiled code, which is made once for any number of rows."""
    # Rounding after every operation, as the plain layer does: so both give nearly the same.
    run = torch.compile(_call, options={"emulate_precision_casts": True})

    def apply(layer: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, Tensor) and leaf.dim() > 2 and len(leaf) > 1:
                torch._dynamo.maybe_mark_dynamic(leaf, 0)
        return run(layer, args, kwargs)

    return apply


def _call(layer: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
    return layer(*args, **kwargs)


@torch.no_grad()
def _seconds(layers: LayerStack, prelude: Prelude, state: Tensor) -> float:
    """The shortest of a few calls of the middle layer, after one that may compile."""
    took = []
    for _ in range(6):
        _wait_for(state.device)
        began = perf_counter()
        layers.run(prelude, layers.stack.n_players // 2, state, 0, len(state))
        _wait_for(state.device)
        took.append(perf_counter() - began)
    return min(took[1:])


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


PARTS: dict[str, Callable[[Walker], None]] = {
    "ahead": _run_ahead,
    "one-pass": _read_in_one_pass,
    "fused": _fuse_layers,
    "compiled": _compile_layers,
}
"""What can be turned on, by name."""

USUAL: tuple[str, ...] = ()
"""What is tried on a GPU where nothing is asked for: nothing until `benchmarks/gpu.py` has shown on
one that the parts are right and gain. Compiling costs more than a short run in any case."""
