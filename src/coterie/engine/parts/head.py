"""The end of a model, from the last layer to logits, found by watching it run."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import PreTrainedModel

from coterie.engine.parts.layers import leading
from coterie.models.loaded.routing import input_device
from coterie.models.loaded.stack import Stack, text_config
from coterie.models.tolerance import tolerance

CAP_FIELDS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")
SCALE_FIELDS = ("logit_scale", "lm_head_multiplier", "logits_scaling", "output_multiplier_scale")

ENOUGH_TOKENS = 64
"""Tokens of a text on which the head is found.

It treats all places alike, and each token brings logits as wide as the vocabulary.
"""


@dataclass(frozen=True, eq=False)
class ProjectionHead:
    """Norm, vocabulary projection, and a scale or a soft cap on the logits.

    Attributes:
        norms: Modules between the last layer and the projection, in order.
        projection: The vocabulary projection.
        width: Tokens a logit is given to; the projection may be padded beyond.
        factor: Factor on the state before the projection.
        scale: Factor on the logits.
        softcap: Bound c of ``c · tanh(logit / c)``; None leaves logits as they are.
        dtype: What logits are scaled and capped in; None is what the projection gives.
    """

    norms: tuple[nn.Module, ...]
    projection: nn.Module
    width: int
    factor: float = 1.0
    scale: float = 1.0
    softcap: float | None = None
    dtype: torch.dtype | None = None

    @property
    def vocabulary(self) -> int:
        """Number of tokens a logit is given to."""
        return self.width

    @property
    def readable(self) -> bool:
        """Whether the projection is a plain matrix whose rows can be read where they lie."""
        return self._plain and not self._matrix.weight.is_meta

    @property
    def _plain(self) -> bool:
        return type(self.projection) is nn.Linear

    @property
    def _matrix(self) -> nn.Linear:
        assert isinstance(self.projection, nn.Linear)
        return self.projection

    @property
    def device(self) -> torch.device | None:
        """Where the projection computes; None where the projection is no plain matrix in memory."""
        return self._matrix.weight.device if self.readable else None

    @property
    def linear(self) -> bool:
        """Whether logits are an affine map of the state, exactly enough to average over.

        In half precision each logit is rounded on its own, and an average of rows is not: the
        rounding would no longer cancel between the two halves of a KL.
        """
        full_precision = self.readable and self._matrix.weight.dtype == torch.float32
        return full_precision and self.softcap is None

    def normed(self, states: Tensor) -> Tensor:
        """What stands between the last layer and the projection, in the projection's dtype."""
        for module in self.norms:
            states = leading(module(states))
        states = states if self.factor == 1.0 else states * self.factor
        # A norm in float32 may stand before a projection in half precision.
        return states.to(self._matrix.weight.dtype) if self._plain else states

    def logits(self, states: Tensor, start: int, stop: int) -> Tensor:
        """Float32 logits ``(n_tokens, stop - start)``; the caller may overwrite them.

        Args:
            states: After the norm, ``(n_tokens, width)``.
            start: First token of the vocabulary.
            stop: The one after the last.
        """
        return self._transformed(states, start, stop).float()

    def made(self, states: Tensor) -> Tensor:
        """All logits ``(n_tokens, vocabulary)`` in the dtype that the model gives them in.

        Args:
            states: After the norm, ``(n_tokens, width)``.
        """
        return self._transformed(states, 0, self.vocabulary)

    def _transformed(self, states: Tensor, start: int, stop: int) -> Tensor:
        if self.readable:
            bias = self._matrix.bias
            part = None if bias is None else bias[start:stop]
            logits = linear(states, self._matrix.weight[start:stop], part)
        else:
            logits = leading(self.projection(states))[:, start:stop]
        logits = logits if self.dtype is None else logits.to(self.dtype)
        return transformed(logits, self.scale, self.softcap)

    def mean_rows(self, weights: Tensor, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Weighted sums of the rows and biases of the projection.

        Args:
            weights: Of each token of the block, ``(n_tokens, stop - start)``.
            start: First token of the vocabulary.
            stop: The one after the last.
        """
        rows = self._matrix.weight[start:stop].float()
        bias = self._matrix.bias
        summed = torch.mm(weights, rows) * self.scale
        if bias is None:
            return summed, weights.new_zeros(len(weights))
        return summed, (weights @ bias[start:stop].float()) * self.scale


def transformed(raw: Tensor, scale: float, softcap: float | None) -> Tensor:
    """Scale or cap raw logits in place, rounding after every step as models do.

    Args:
        raw: Logits as the projection gives them; overwritten.
        scale: Factor on them.
        softcap: Bound c of ``c · tanh(logit / c)``; None caps nothing.
    """
    if scale != 1.0:
        raw = raw.mul_(scale)
    return raw if softcap is None else raw.div_(softcap).tanh_().mul_(softcap)


class TailNotFound(Exception):
    """The end of the model is not a chain of modules, a projection and a scale; says why."""


def find_head(model: PreTrainedModel, stack: Stack, tokens: Tensor) -> ProjectionHead:
    """Find the head by running the model once on the first of `tokens`, reproducing its logits.

    Args:
        model: In evaluation mode.
        stack: Its whole layers.
        tokens: A few texts, ``(n_sequences, length)``.

    Raises:
        TailNotFound: No chain of the modules that ran after the last layer gives the same logits.
    """
    projection = model.get_output_embeddings()
    if projection is None:
        raise TailNotFound("it names no output embedding")
    # 1. Watch one forward: the last state, the calls after it, what is projected, the logits.
    watched = _watch(model, stack, projection, tokens[:, :ENOUGH_TOKENS])
    # 2. Which modules, and which factor, lead from the last state to the projection?
    found = _chain(watched.last_state, watched.calls, watched.projected)
    if found is None:
        raise TailNotFound("more than a chain of modules stands between last layer and head")
    norms, factor = found
    with torch.no_grad():
        # 3. Project once more, and find the scale or cap that makes these the logits.
        raw = leading(projection(watched.projected))
    logits = watched.logits
    raw = raw[..., : logits.shape[-1]]
    scale, softcap = _transform(text_config(model.config), raw, logits)
    return ProjectionHead(
        norms,
        projection,
        width=logits.shape[-1],
        factor=factor,
        scale=scale,
        softcap=softcap,
        dtype=logits.dtype,
    )


@dataclass(frozen=True, eq=False)
class _Called:
    """One call of a module: what it was given first, and what it gave back."""

    module: nn.Module
    given: Tensor
    returned: Tensor


@dataclass(frozen=True, eq=False)
class _Watched:
    """What happened after the last layer: its state, the calls of modules in order, the logits."""

    last_state: Tensor
    calls: list[_Called]
    projected: Tensor
    logits: Tensor


def _watch(model: PreTrainedModel, stack: Stack, projection: nn.Module, tokens: Tensor) -> _Watched:
    calls: list[_Called] = []
    seen: dict[str, Tensor] = {}

    def after_layer(module: nn.Module, args: object, output: object) -> None:
        seen["last"] = leading(output)
        calls.clear()

    def after(module: nn.Module, args: tuple[object, ...], output: object) -> None:
        # Only what runs before the projection can stand between it and the last layer.
        if "projected" not in seen and args and isinstance(args[0], Tensor):
            calls.append(_Called(module, args[0], leading(output)))

    def before_projection(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        seen["projected"] = args[0]

    # Parts of layers, and modules that contain the layers, are not of the tail.
    inside = {id(module) for layer in stack.layers for module in layer.modules()}
    handles = [
        module.register_forward_hook(after)
        for name, module in model.named_modules()
        if id(module) not in inside and not f"{stack.path}.".startswith(f"{name}.") and name
    ]
    handles.append(stack.layers[-1].register_forward_hook(after_layer))
    handles.append(projection.register_forward_pre_hook(before_projection))
    try:
        with torch.no_grad():
            logits = model(input_ids=tokens.to(input_device(model)), use_cache=False).logits
    finally:
        for handle in handles:
            handle.remove()
    if "projected" not in seen or "last" not in seen:
        raise TailNotFound("its output embedding or its last layer is not called as a module")
    return _Watched(seen["last"], calls, seen["projected"], logits)


def _chain(
    state: Tensor, calls: list[_Called], projected: Tensor
) -> tuple[tuple[nn.Module, ...], float] | None:
    """The modules, and a factor, that lead from a state to what is projected.

    A module that was given this very tensor comes before a state that is nearly the same: the norm
    of a state that has unit size already changes little, and is there all the same.
    """
    if state is projected:
        return (), 1.0
    if (found := _through(state, calls, projected, lambda given: given is state)) is not None:
        return found
    if (factor := _ratio(state, projected)) is not None:
        return (), factor
    return _through(state, calls, projected, partial(_nearly, state))


def _through(
    state: Tensor, calls: list[_Called], projected: Tensor, follows: Callable[[Tensor], bool]
) -> tuple[tuple[nn.Module, ...], float] | None:
    """A chain of modules that begins with one that was given the state, or None."""
    # A module that contains others returns after them: the last to return is the outermost.
    for at in reversed([at for at, call in enumerate(calls) if follows(call.given)]):
        rest = _chain(calls[at].returned, calls[at + 1 :], projected)
        if rest is not None:
            return (calls[at].module, *rest[0]), rest[1]
    return None


def _nearly(state: Tensor, given: Tensor) -> bool:
    if given is state or given.shape != state.shape:
        return False
    return _error(given, state) < _allowed(state)


def _ratio(state: Tensor, projected: Tensor) -> float | None:
    """The factor that makes one state the other, if there is one."""
    if state.shape != projected.shape:
        return None
    # Least squares: the factor that brings one tensor nearest to the other.
    given, wanted = state.float(), projected.float().to(state.device)
    factor = float((given * wanted).sum() / (given * given).sum())
    factor = 1.0 if abs(factor - 1) < _allowed(projected) / 20 else factor  # no more than rounding
    return factor if _error(given * factor, wanted) < _allowed(projected) else None


def _transform(config: object, raw: Tensor, logits: Tensor) -> tuple[float, float | None]:
    """The scale and the soft cap that turn ``raw`` projections into the logits most exactly.

    Each is tried in the dtype of the logits. The most exact one is taken: in half precision a
    cap far above the logits and no cap at all are both close.
    """
    options: list[tuple[float, float | None]] = [(1.0, None)]
    for value in (getattr(config, field, None) for field in SCALE_FIELDS):
        if isinstance(value, int | float) and not isinstance(value, bool) and value:
            options += [(float(value), None), (1.0 / value, None)]
    caps = (getattr(config, field, None) for field in CAP_FIELDS)
    options += [(1.0, float(cap)) for cap in caps if cap]
    made = (transformed(raw.to(logits.dtype, copy=True), *option) for option in options)
    errors = [_error(one, logits) for one in made]
    nearest = min(range(len(options)), key=lambda at: errors[at])  # of equals, the first
    if not errors[nearest] < max(_allowed(raw), _allowed(logits)):
        raise TailNotFound(
            "its logits are neither its projection nor a known scale or soft cap of it"
        )
    return options[nearest]


def _allowed(expected: Tensor) -> float:
    """How far two tensors that should be the same may differ, as a share of their largest entry."""
    return tolerance(expected.dtype).entries


def _error(found: Tensor, expected: Tensor) -> float:
    found, expected = found.float(), expected.float().to(found.device)
    return float((found - expected).abs().amax() / expected.abs().amax().clamp_min(1e-6))
