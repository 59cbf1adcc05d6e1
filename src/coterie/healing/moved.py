"""Students whose own weights move: all they use, or those of some layers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from coterie.healing.students import NO_REPAIR, Place, Student, standing
from coterie.models.loaded.stack import Stack

Trains = Callable[[str], bool]
"""Whether a parameter is trained, by its name in the model."""


def everything(_: str) -> bool:
    """All parameters are trained."""
    return True


class Rewritten(Student):
    """Weights of its own, started as the full model's, for what it trains of the kept layers.

    They are float32 whatever the model is in, and rounded to that where the model computes.

    Args:
        model: The full model, frozen from here on.
        stack: Its layers.
        kept: The players the student keeps.
        repaired: Weights it begins with instead of the full model's, by their names there.
        trains: Which parameters it trains, by name; all that it uses where nothing is said.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        stack: Stack,
        kept: Sequence[int],
        repaired: Mapping[str, Tensor] = NO_REPAIR,
        trains: Trains = everything,
    ) -> None:
        super().__init__(model, stack, kept, repaired)
        # With the dot: "layers.1." is not the beginning of "layers.10.".
        gone = tuple(f"{stack.path}.{i}." for i in range(stack.n_players) if i not in self.kept)
        with self._in_place():
            self._own = {
                name: nn.Parameter(one.detach().to(torch.float32, copy=True))
                for name, one in model.named_parameters()
                if not name.startswith(gone) and one.is_floating_point() and trains(name)
            }
        # Tied weights have one parameter and several places.
        own = {model.get_parameter(name): mine for name, mine in self._own.items()}
        self._places = [
            Place(model.get_submodule(module), leaf, one, own[one], one.dtype)
            for name, one in model.named_parameters(remove_duplicate=False)
            for module, _, leaf in [name.rpartition(".")]
            if one in own
        ]

    @property
    def trained(self) -> dict[str, nn.Parameter]:
        """Every weight that is trained."""
        return self._own

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Inside this block only the kept layers run, with the student's weights in their places.

        The model lends its code; its own weights are not touched, since they teach.
        """
        with standing(self._places), super().alone():
            yield

    def full_logits(self, tokens: Tensor) -> Tensor:
        """Logits of the full model, its weights in place."""
        with torch.no_grad():
            return self.model(input_ids=tokens, use_cache=False).logits

    def predict(self, tokens: Tensor) -> Tensor:
        """Logits of the kept layers with the student's weights in place of the model's."""
        return self.model(input_ids=tokens, use_cache=False).logits

    def merged(self) -> dict[str, Tensor]:
        """Every weight that was trained."""
        return {name: one.detach().float().cpu() for name, one in self._own.items()}


class Plain(Student):
    """A cut model by itself: no full model needs its weights, so they move where they are.

    Args:
        model: The cut model.
        stack: Its layers.
        trains: Which parameters it trains, by name; all where nothing is said.
    """

    def __init__(self, model: PreTrainedModel, stack: Stack, trains: Trains = everything) -> None:
        super().__init__(model, stack, range(stack.n_players))
        named = model.named_parameters()
        # Packed weights are integers and cannot learn; they stay as they are.
        self._own = {name: one for name, one in named if one.is_floating_point() and trains(name)}
        for one in self._own.values():
            one.requires_grad_(True)

    @property
    def trained(self) -> dict[str, nn.Parameter]:
        """Every weight that is trained."""
        return self._own

    def predict(self, tokens: Tensor) -> Tensor:
        """Logits of the model."""
        return self.model(input_ids=tokens, use_cache=False).logits

    def merged(self) -> dict[str, Tensor]:
        """Every weight that was trained."""
        return {name: one.detach().float().cpu() for name, one in self._own.items()}
