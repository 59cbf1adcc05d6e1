"""The end of a model, from the last layer to logits, found by watching it run."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from coterie.evaluation.capture import leading
from coterie.models.routing import input_device
from coterie.models.stack import Stack, text_config

CAP_FIELDS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")
SCALE_FIELDS = ("logit_scale", "lm_head_multiplier", "logits_scaling", "output_multiplier_scale")


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
    """

    norms: tuple[nn.Module, ...]
    projection: nn.Module
    width: int
    factor: float = 1.0
    scale: float = 1.0
    softcap: float | None = None

    @property
    def vocabulary(self) -> int:
        """Number of tokens a logit is given to."""
        return self.width

    @property
    def readable(self) -> bool:
        """Whether the projection is a plain matrix whose rows can be read where they lie."""
        return type(self.projection) is nn.Linear and not self._matrix.weight.is_meta

    @property
    def _matrix(self) -> nn.Linear:
        assert isinstance(self.projection, nn.Linear)
        return self.projection

    @property
    def device(self) -> torch.device | None:
        """Where the projection computes; None where that is not for us to say."""
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
        """What stands between the last layer and the projection."""
        for module in self.norms:
            states = leading(module(states))
        return states if self.factor == 1.0 else states * self.factor

    def logits(self, states: Tensor, start: int, stop: int) -> Tensor:
        """Float32 logits ``(n_tokens, stop - start)``; the caller may overwrite them."""
        if self.readable:
            bias = self._matrix.bias
            rows = self._matrix.weight[start:stop]
            logits = torch.mm(states.to(rows.dtype), rows.T)
            if bias is not None:
                logits += bias[start:stop]
        else:
            logits = leading(self.projection(states))[:, start:stop].clone()
        logits = logits.float()
        if self.scale != 1.0:
            logits *= self.scale
        if self.softcap is not None:
            logits = logits.div_(self.softcap).tanh_().mul_(self.softcap)
        return logits

    def mean_rows(self, weights: Tensor, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Weighted sums of the rows and biases of the projection."""
        rows = self._matrix.weight[start:stop].float()
        bias = self._matrix.bias
        summed = torch.mm(weights, rows) * self.scale
        if bias is None:
            return summed, weights.new_zeros(len(weights))
        return summed, (weights @ bias[start:stop].float()) * self.scale


class TailNotFound(Exception):
    """The end of the model is not a chain of modules, a projection and a scale; says why."""


def find_head(model: PreTrainedModel, stack: Stack, tokens: Tensor) -> ProjectionHead:
    """Find the head by running the model once on `tokens` and reproducing its logits.

    Raises:
        TailNotFound: No chain of the modules that ran after the last layer gives the same logits.
    """
    projection = model.get_output_embeddings()
    if projection is None:
        raise TailNotFound("it names no output embedding")
    watched = _watch(model, stack, projection, tokens)
    norms, factor = _chain(watched)
    with torch.no_grad():
        raw = leading(projection(watched.projected))
    logits = watched.logits
    raw = raw[..., : logits.shape[-1]].float()
    scale, softcap = _transform(text_config(model.config), raw, logits.float())
    return ProjectionHead(norms, projection, logits.shape[-1], factor, scale, softcap)


@dataclass(frozen=True, eq=False)
class _Called:
    """One call of a module: what it was given first, and what it gave back."""

    module: nn.Module
    given: Tensor
    returned: Tensor


@dataclass(frozen=True, eq=False)
class _Watched:
    """What happened after the last layer: calls of modules in order, and the two ends."""

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
        if "projected" not in seen and args and isinstance(args[0], Tensor):
            calls.append(_Called(module, args[0], leading(output)))

    def before_projection(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        seen["projected"] = args[0]

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


def _chain(watched: _Watched) -> tuple[tuple[nn.Module, ...], float]:
    """The modules, and a factor, that lead from the last layer to the projection."""
    state, chain = watched.last_state, list[nn.Module]()
    calls = watched.calls
    while True:
        if (factor := _ratio(state, watched.projected)) is not None:
            return tuple(chain), factor
        # A module that contains others returns after them: the last to return is the outermost.
        following = [at for at, call in enumerate(calls) if _is_given(call, state)]
        if not following:
            raise TailNotFound("more than a chain of modules stands between last layer and head")
        chain.append(calls[following[-1]].module)
        state, calls = calls[following[-1]].returned, calls[following[-1] + 1 :]


def _is_given(call: _Called, state: Tensor) -> bool:
    return call.given is state or (call.given.shape == state.shape and _same(call.given, state))


def _ratio(state: Tensor, projected: Tensor) -> float | None:
    """The factor that makes one state the other, if there is one."""
    if state.shape != projected.shape:
        return None
    if _same(state, projected):
        return 1.0
    factor = float((state * projected).sum() / (state * state).sum())
    return factor if _same(state * factor, projected) else None


def _transform(config: object, raw: Tensor, logits: Tensor) -> tuple[float, float | None]:
    """The scale and the soft cap that turn ``raw`` projections into the model's logits."""
    options: list[tuple[float, float | None]] = [(1.0, None)]
    for value in (getattr(config, field, None) for field in SCALE_FIELDS):
        if isinstance(value, int | float) and not isinstance(value, bool) and value:
            options += [(float(value), None), (1.0 / value, None)]
    caps = (getattr(config, field, None) for field in CAP_FIELDS)
    options += [(1.0, float(cap)) for cap in caps if cap]
    for scale, softcap in options:
        made = raw * scale
        if softcap is not None:
            made = softcap * torch.tanh(made / softcap)
        if _same(made, logits):
            return scale, softcap
    raise TailNotFound("its logits are neither its projection nor a known scale or soft cap of it")


def _same(left: Tensor, right: Tensor) -> bool:
    room = 1e-5 if right.dtype in (torch.float32, torch.float64) else 2e-2
    left, right = left.float(), right.float().to(left.device)
    size = right.abs().amax().clamp_min(1e-6)
    return bool(((left - right).abs().amax() / size) < room)
