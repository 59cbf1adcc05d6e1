"""Where a coalition breaks down: the layer after which its state first is not finite.

Nobody looks until a loss is not finite. In memory the text is then run once more, as far as that
layer. A pass over weights on disk looks at the states it makes, for a second pass would cost more.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from coterie.engine.parts.layers import leading
from coterie.engine.question import Question
from coterie.game.coalitions import Block, Coalition, to_text
from coterie.models.loaded.routing import input_device, routed
from coterie.models.loaded.stack import Stack, find_stack

Where = Callable[[int, int], int | None]
"""The layer where a coalition of `Question.ordered` breaks down on the sequence of a column."""


class Breakdowns:
    """Says of each coalition of a question, once, where it breaks down and on how many texts.

    Finding the layer costs a forward, so it is found on the first text alone; the numbers in its
    line grow as more texts are read.

    Args:
        asked: The question.
        remarks: Where the lines go.
    """

    def __init__(self, asked: Question, remarks: list[str]) -> None:
        self.asked, self.remarks = asked, remarks
        self._read = np.zeros(len(asked.ordered), dtype=np.intp)
        self._broken = np.zeros(len(asked.ordered), dtype=np.intp)
        self._lines: dict[int, tuple[int, str]] = {}

    def note(self, block: Block, where: Where) -> None:
        """Look at a block of the answer; its rows are those of `Question.ordered`."""
        broken = ~np.isfinite(block.observations.nll)
        self._read[block.rows] += len(block.columns)
        self._broken[block.rows] += broken.sum(axis=1)
        for at in np.flatnonzero(self._broken[block.rows]):
            row = int(block.rows[at])
            # The first text tells the layer; later ones only change the two numbers of the line.
            if row not in self._lines:
                column = int(broken[at].argmax())
                self._lines[row] = len(self.remarks), self._place(block, int(at), column, where)
                self.remarks.append("")
            line, place = self._lines[row]
            self.remarks[line] = place.format(self._broken[row], self._read[row])

    def _place(self, block: Block, row: int, column: int, where: Where) -> str:
        """The line about a coalition, with places for two numbers: texts broken down, and read."""
        layer = where(int(block.rows[row]), int(block.columns[column]))
        place = "in the head" if layer is None else f"first not finite after layer {layer}"
        return (
            f"coalition {to_text(self.asked.ordered[block.rows[row]])} has loss"
            f" {block.observations.nll[row, column]} on {{}} of {{}} sequences, on sequence"
            f" {self.asked.sequences[block.columns[column]]} {place}: stored as it is, read as the"
            " floor"
        )


class _Found(Exception):
    """Ends the forward; holds the layer that was looked for, None where every state is finite."""

    def __init__(self, layer: int | None) -> None:
        self.layer = layer


def broken_layer(
    model: PreTrainedModel, stack: Stack, coalition: Coalition, tokens: Tensor
) -> int | None:
    """Run a coalition on one text up to the whole layer after which its state is not finite.

    Args:
        model: The model.
        stack: Its players, of any kind.
        coalition: Shape ``(n_players,)``.
        tokens: Shape ``(length,)``.

    Returns:
        The layer, or None where the states of all layers are finite.
    """
    layers = find_stack(model).layers

    def after(layer: int) -> Callable[[nn.Module, object, object], None]:
        def look(module: nn.Module, given: object, returned: object) -> None:
            # The last layer ends the forward as well: the head is not looked at.
            broken = not torch.isfinite(leading(returned)).all()
            if broken or layer + 1 == len(layers):
                raise _Found(layer if broken else None)

        return look

    handles = [one.register_forward_hook(after(layer)) for layer, one in enumerate(layers)]
    try:
        with routed(model, stack, coalition.tolist()), torch.no_grad():
            model(input_ids=tokens[None].to(input_device(model)), use_cache=False)
    except _Found as found:
        return found.layer
    finally:
        for handle in handles:
            handle.remove()
    return None


class Watch:
    """Looks at the states of a walk as they are made, and remembers where each broke down."""

    def __init__(self) -> None:
        self._states: dict[int, dict[int, int]] = {}
        self._rows: dict[int, dict[int, int]] = {}

    def made(self, parent: int, child: int, layer: int, first: int, state: Tensor) -> None:
        """Note where a new state is not finite, for the sequences from column ``first`` on.

        Args:
            parent: The state that the layer was given.
            child: The state that it made.
            layer: Which layer.
            first: Column of the first sequence.
            state: The new state, ``(n_sequences, length, width)``.
        """
        # Most states are finite, so the usual case costs one reduction and no bookkeeping.
        finite = torch.isfinite(state).flatten(1).all(dim=1)
        if finite.all():
            return
        before, own = self._states.get(parent, {}), self._states.setdefault(child, {})
        for column in (first + torch.nonzero(~finite).flatten()).tolist():
            # A state made from one that was broken already broke down where that one did.
            own[column] = before.get(column, layer)

    def ended(self, rows: Sequence[int], states: Sequence[int]) -> None:
        """Note which final state each coalition has."""
        for row, state in zip(rows, states, strict=True):
            self._rows[row] = self._states.get(state, {})

    def where(self, row: int, column: int) -> int | None:
        """The layer where a coalition broke down, None where its states are finite."""
        return self._rows.get(row, {}).get(column)
