"""Texts on their way through a model twice: as the full model runs them, and as what is kept does.

Both are one model. A layer's weights change when the full model has passed it, so that no second
copy of any is needed, and they may come from disk just before they are. Of the states those of two
places between layers are held, and as many again while they move: `STATES` × tokens × width
numbers. Each way is gone as far as it is asked for and no further.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from coterie.repair.changes import check_unshared
from coterie.repair.full import FullStates, PassingStates
from coterie.repair.gaps import Turn, turns
from coterie.repair.parts import LayerPiece, parts_of
from coterie.repair.place import KeptLayer
from coterie.repair.refitted import Refitted
from coterie.repair.repairable import Repairable

TOKENS_A_CALL = 2048
"""Tokens of one call of a layer on a CPU."""

TOKENS_A_CALL_ON_A_GPU = 16384
"""The same on a GPU, which smaller calls leave waiting."""

STATES = 4
"""Tables of states, ``(n_sequences, length, width)`` each, that are in memory at once, at most."""


class Walk:
    """One repair on its way through the layers.

    Args:
        whole: The full model; its weights change until `Changes.taken_back`.
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
        whole: Repairable,
        kept: Sequence[int],
        tokens: Tensor,
        fitted: int | None = None,
    ) -> None:
        check_unshared(whole.model, whole.stack)
        self.whole, self.model, self.stack, self.tokens = whole, whole.model, whole.stack, tokens
        self.turns = turns(kept, self.stack.n_players)
        self.layers = whole.layers(tokens)
        prelude = self.layers.prelude(tokens)
        # What enters the first layer goes when it is passed: no layer is given it from here.
        self.prelude = replace(prelude, embedded=prelude.embedded.new_empty(0))
        self.changes = whole.changes()
        self.passed: list[KeptLayer] = []
        self.refitted: list[Refitted] = []
        self.rescaled = 1.0
        self.layer_tokens = 0
        self._kept = prelude.embedded
        self._waiting: list[KeptLayer] = []
        self.full: FullStates = PassingStates(self.through, prelude.embedded)
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
        # All at once: a layer on its way asks for these states again, and none may overtake it.
        waiting, self._waiting = self._waiting, []
        for place in waiting:
            place.leave()
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
        found: Tensor | None = None
        for rows in _slices(len(self.tokens), self._rows):
            some = self.run(layer, states[rows], rows)
            if found is None:  # put together where they will lie: two tables, not three
                found = some.new_empty((len(states), *some.shape[1:]))
            found[rows] = some
        assert found is not None
        return found

    def hold(self, layer: int) -> None:
        """Have the weights of a layer in memory, for what is read off them without running it."""
        if self.layers.weights is not None:
            self.layers.weights.hold(layer)

    def end(self) -> Tensor:
        """The states behind the last kept layer, where nothing is refitted on the way."""
        for _ in self.places():
            pass
        return self.kept

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


def _slices(n: int, at_once: int) -> Iterator[slice]:
    return (slice(start, min(start + at_once, n)) for start in range(0, n, at_once))
