"""Do layers that are run apart give what they give in the model's own forward?

Layers that share more than the state that is handed on (keys and values of an earlier layer, say)
do not, and no result that runs them on their own can be trusted.
"""

from contextlib import nullcontext, suppress

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map
from transformers import PretrainedConfig, PreTrainedModel

from coterie.engine.parts.layers import (
    LayerStack,
    LayerWeights,
    NotReplayable,
    Prelude,
    leading,
    running_apart,
)
from coterie.models.loaded.routing import Forward, input_device, patched
from coterie.models.loaded.stack import Stack
from coterie.models.tolerance import tolerance


class _SeenEnough(Exception):
    """The last layer that is compared has run."""


def replayed(model: PreTrainedModel, stack: Stack, tokens: Tensor) -> LayerStack:
    """The layers of a model, ready to be run on their own, and checked to give the same there.

    Args:
        model: In evaluation mode.
        stack: Its whole layers.
        tokens: A few texts, ``(n_sequences, length)``.

    Raises:
        NotReplayable: they cannot be run apart, or differ from the model's own forward.
    """
    layers = LayerStack(model, stack, tokens)
    check_replay(model, layers, tokens)
    return layers


def check_replay(model: PreTrainedModel, layers: LayerStack, tokens: Tensor) -> float:
    """Compare each layer, run on its own on one text after the other, with the model's own forward.

    A layer is given the state that it has in the model, and runs on its own first. So it cannot use
    what the model or an earlier layer has left behind; nor, as the texts differ, what it did itself
    on the text before. Weights that come from files are read once for both.

    Args:
        model: In evaluation mode.
        layers: Its whole layers.
        tokens: A few texts, ``(n_sequences, length)``.

    Returns:
        The largest difference of two states after a layer, as a share of the state.

    Raises:
        NotReplayable: they differ, or a layer does not run apart.
    """
    tokens = _different(tokens)
    comparison = _Comparison(layers, layers.prelude(tokens))
    watching: dict[nn.Module, Forward] = {
        one: comparison.watched(i, one.forward) for i, one in enumerate(layers.stack.layers)
    }
    _run_watched(model, tokens, watching, layers.weights)
    # A NaN compares with nothing, so it is counted as the worst gap there is.
    worst = max(comparison.gaps, default=1.0, key=lambda gap: 1e30 if gap != gap else gap)
    if not worst <= tolerance(model.dtype).states:
        raise NotReplayable(f"its layers, run apart, differ from the model by {worst:.2g}")
    return worst


class _Comparison:
    """Runs each layer apart just before it runs in the model, and keeps how far the two differ."""

    def __init__(self, layers: LayerStack, prelude: Prelude) -> None:
        self.gaps: list[float] = []
        self._layers, self._prelude = layers, prelude
        self._contents = _Contents(prelude)
        self._handed_on = prelude.embedded.clone()  # some layers add to it in place

    def watched(self, layer: int, forward: Forward) -> Forward:
        """The forward of a layer, compared on its way with the layer run apart."""
        layers, key = self._layers, self._layers.carried[layer].sources[0]

        def run(*args: object, **kwargs: object) -> object:
            if layers.weights is not None:
                layers.weights.hold(layer)
            given = kwargs[key] if isinstance(key, str) else args[key or 0]
            assert isinstance(given, Tensor)
            # What this layer is given must be what the one before it returned.
            self.gaps.append(_gap(self._handed_on, given))
            self._contents.restore()  # what earlier layers have left there must not be needed
            with patched({layers.stack.layers[layer]: forward}):
                apart = _apart(layers, self._prelude, layer, given)
            returned = forward(*args, **kwargs)
            self._handed_on = leading(returned).clone()
            self.gaps.append(_gap(apart, self._handed_on))
            if layer + 1 == layers.stack.n_players:
                raise _SeenEnough
            return returned

        return run


def _run_watched(
    model: PreTrainedModel,
    tokens: Tensor,
    watching: dict[nn.Module, Forward],
    weights: LayerWeights | None,
) -> None:
    """Run the model as far as its last layer, each layer by the forward that watches it."""
    there = nullcontext() if weights is None else weights.beginning()
    with there, patched(watching), torch.no_grad(), suppress(_SeenEnough):
        model(input_ids=tokens.to(input_device(model)), use_cache=False)


def _apart(layers: LayerStack, prelude: Prelude, layer: int, given: Tensor) -> Tensor:
    """The states after a layer that is run on its own, text by text."""
    try:
        with running_apart():
            return torch.cat(
                [
                    layers.run(prelude, layer, given[one : one + 1].clone(), one, 1)
                    for one in range(len(given))
                ]
            )
    except NotReplayable as error:
        raise NotReplayable(
            f"its layers, run apart, differ from the model: layer {layer} fails"
            f" ({error.__cause__!r})"
        ) from error


def _different(tokens: Tensor) -> Tensor:
    """The texts; where the last equals the first it is reversed, since equal texts hide errors."""
    if len(tokens) < 2 or not torch.equal(tokens[0], tokens[-1]):
        return tokens
    return torch.cat([tokens[:-1], tokens[-1:].flip(1)])


class _Contents:
    """The contents of the objects, other than tensors, that layers are given, such as caches."""

    def __init__(self, prelude: Prelude) -> None:
        leaves = [leaf for given in prelude.inputs for leaf in given.leaves]
        objects = {id(leaf): leaf for leaf in leaves if not isinstance(leaf, Tensor)}
        held = [
            vars(one)
            for one in objects.values()
            if hasattr(one, "__dict__") and not isinstance(one, nn.Module | PretrainedConfig | type)
        ]
        self._held = [(inside, _copied(inside)) for inside in held]

    def restore(self) -> None:
        """Put back what was inside before any layer ran."""
        for inside, before in self._held:
            inside.clear()
            inside.update(_copied(before))


def _copied(inside: dict[str, object]) -> dict[str, object]:
    """The same things in containers of their own."""
    return tree_map(lambda leaf: leaf, inside)  # type: ignore[no-any-return]


def _gap(found: Tensor, expected: Tensor) -> float:
    """Mean difference of the states of a token, as a share of them.

    A mean, so that no token with a giant state hides the others, and no router that falls the other
    way on one token is taken for more than that. States that are not finite agree.
    """
    # Weights that overflow do so in the model as well: only where they differ is it an error.
    if not torch.isfinite(expected).all():
        return 0.0 if torch.equal(torch.isfinite(found), torch.isfinite(expected)) else 1.0
    gaps = (found - expected).float().norm(dim=-1)
    return (gaps / expected.float().norm(dim=-1).clamp(min=1e-30)).mean().item()
