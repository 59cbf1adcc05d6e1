"""Texts on their way through a model twice: as the full model runs them, and as what is kept does.

Both are one model. A layer's weights change when the full model has passed it, so that no second
copy of any is needed, and of the states only those of two places between layers are held:
2 × tokens × width numbers. Each way is gone as far as it is asked for and no further.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from coterie.engine.parts.layers import LayerStack, NotReplayable
from coterie.engine.parts.replay import replayed
from coterie.errors import RepairError
from coterie.models.loaded.stack import Stack
from coterie.repair.changes import Changes, shared_layers
from coterie.repair.full import FullStates, PassingStates
from coterie.repair.gaps import Turn, turns
from coterie.repair.parts import LayerPiece, parts_of
from coterie.repair.place import KeptLayer
from coterie.repair.refitted import Refitted

TOKENS_A_CALL = 2048
"""Tokens of one call of a layer on a CPU."""

TOKENS_A_CALL_ON_A_GPU = 16384
"""The same on a GPU, which smaller calls leave waiting."""


class Walk:
    """One repair on its way through the layers.

    Args:
        model: In evaluation mode; its weights change until `Changes.taken_back`.
        stack: Its whole layers.
        kept: The layers that stay.
        tokens: Ids ``(n_sequences, length)``, without padding.
        fitted: How many of the sequences are fitted on; the others go along. All by default.

    Attributes:
        full: The full model's states.
        passed: The places so far.
        changes: The weights that were changed so far.
        refitted: What was refitted so far.
        rescaled: What the states have been multiplied by.
        layer_tokens: Tokens that layers, or parts of one, were applied to.

    Raises:
        RepairError: The layers cannot be run apart from the model, or share weights.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        stack: Stack,
        kept: Sequence[int],
        tokens: Tensor,
        fitted: int | None = None,
    ) -> None:
        if shared_layers(stack.layers):
            raise RepairError(
                f"the layers of {type(model).__name__} share weights, so none can be refitted"
                " alone: leave it as it was cut (--repair none)"
            )
        self.model, self.stack, self.tokens = model, stack, tokens
        self.turns = turns(kept, stack.n_players)
        self.layers = _layers(model, stack, tokens)
        self.prelude = self.layers.prelude(tokens)
        self.changes = Changes(model)
        self.passed: list[KeptLayer] = []
        self.refitted: list[Refitted] = []
        self.rescaled = 1.0
        self.layer_tokens = 0
        self._kept = self.prelude.embedded
        self._waiting: list[KeptLayer] = []
        self.full: FullStates = PassingStates(self.through, self.prelude.embedded)
        self._fitted = len(tokens) if fitted is None else fitted
        at_once = TOKENS_A_CALL if tokens.device.type == "cpu" else TOKENS_A_CALL_ON_A_GPU
        self._rows = max(1, at_once // tokens.shape[1])
        self._parts: dict[int, tuple[LayerPiece, ...]] = {}

    def places(self) -> Iterator[KeptLayer]:
        """The kept layers in turn."""
        for turn in self.turns:
            self.passed.append(KeptLayer(self, turn))
            yield self.passed[-1]
            self._waiting.append(self.passed[-1])

    @property
    def kept(self) -> Tensor:
        """What enters the next kept layer, ``(n_sequences, length, width)``.

        Layers that were passed run when this is asked for: behind the last gap many never do.
        """
        while self._waiting:
            self._waiting.pop(0).leave()
        return self._kept

    @kept.setter
    def kept(self, states: Tensor) -> None:
        self._kept = states

    def fitting(self) -> Iterator[slice]:
        """Rows of the texts to fit on that are run at once."""
        return _slices(self._fitted, self._rows)

    @torch.no_grad()
    def run(self, layer: int, states: Tensor, rows: slice) -> Tensor:
        """Apply a layer, as it is now, to the states of some texts.

        Args:
            layer: Its number in the full model.
            states: What enters it, ``(n_rows, length, width)``.
            rows: Which texts these are, for their positions and masks.
        """
        self.layer_tokens += states.shape[0] * states.shape[1]
        # A copy, for some layers add to their input in place.
        return self.layers.run(self.prelude, layer, states.clone(), rows.start, 1)

    def through(self, layer: int, states: Tensor) -> Tensor:
        """Apply a layer, as it is now, to the states of all texts."""
        return torch.cat(
            [self.run(layer, states[rows], rows) for rows in _slices(len(self.tokens), self._rows)]
        )

    def unchanged(self, turn: Turn) -> bool:
        """Whether the kept states after a layer are the full model's, which is not past them."""
        return not turn.behind and not self.changes and self.full.layer <= turn.layer + 1

    def parts(self, layer: int) -> tuple[LayerPiece, ...]:
        """The parts of a layer, tried once, on the first texts as they are kept then."""
        if layer not in self._parts:
            rows, module = slice(0, min(2, len(self.tokens))), self.stack.layers[layer]
            self._parts[layer] = parts_of(
                module, layer, lambda some: self.run(layer, some, rows), self.kept[rows]
            )
        return self._parts[layer]


def _layers(model: PreTrainedModel, stack: Stack, tokens: Tensor) -> LayerStack:
    try:
        return replayed(model, stack, tokens[[0, -1]])
    except NotReplayable as reason:
        raise RepairError(
            f"{type(model).__name__} cannot be repaired layer by layer ({reason}): leave it as it"
            " was cut (--repair none)"
        ) from reason


def _slices(n: int, at_once: int) -> Iterator[slice]:
    return (slice(start, min(start + at_once, n)) for start in range(0, n, at_once))
