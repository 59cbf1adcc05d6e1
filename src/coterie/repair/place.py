"""A kept layer whose turn it is: what enters it, where the full model stands, and the refit."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers.pytorch_utils import Conv1D

from coterie.errors import RepairError
from coterie.repair.gaps import Turn
from coterie.repair.inputs import (
    Columns,
    input_columns,
    normed_direction,
    output_columns,
    scaled_norm,
    size_of_change,
    token_weights,
    watched,
)
from coterie.repair.least_squares import HELD_OUT, Fit, Sums, best_fit
from coterie.repair.parts import LayerPiece, Writer
from coterie.repair.refitted import Refitted, check_sums

if TYPE_CHECKING:
    from coterie.repair.walk import Walk

ROUNDS_BEHIND_A_NORM = 3
"""Times a map is refitted whose output a norm divides by its size, which the refit changes."""


class KeptLayer:
    """A kept layer whose turn it is.

    Args:
        walk: The walk it is a place of.
        turn: Which layer it is.
    """

    def __init__(self, walk: "Walk", turn: Turn) -> None:
        self.walk, self.turn = walk, turn
        self._ran = 0
        self._left = False

    @property
    def gap(self) -> int:
        """Layers that went right after this one."""
        return self.turn.gap

    @property
    def behind(self) -> bool:
        """Layers are missing somewhere before this one."""
        return self.turn.behind

    @cached_property
    def parts(self) -> tuple[LayerPiece, ...]:
        """The parts of the layer."""
        return self.walk.parts(self.turn.layer)

    @property
    def last(self) -> LayerPiece:
        """Its last part.

        Raises:
            RepairError: It does not end in a linear map.
        """
        if not self.parts[-1].writers:
            raise RepairError(
                f"layer {self.turn.layer} does not end in one linear map that all tokens go"
                " through (experts, a gate, or a norm of another kind stand there): leave it as it"
                " was cut (--repair none), or refit what can be (--repair progressive)"
            )
        return self.parts[-1]

    def beyond(self) -> Tensor:
        """The full model's states before the next kept layer: what the refit comes close to."""
        self._catch_up()
        return self.walk.full.at(self.turn.following)

    def after(self) -> Tensor:
        """The full model's states after this layer, which it has not passed yet."""
        self._catch_up()
        return self.walk.full.at(self.turn.layer + 1)

    def after_parts(self) -> list[Tensor]:
        """The full model's states after each part of this layer."""
        self._catch_up()
        return self.walk.full.through(self.parts)

    def _catch_up(self) -> None:
        """Let the kept states come here while they are still the full model's, to run them once."""
        _ = self.walk.kept

    def run_before_last(self) -> None:
        """Let the kept states go through all parts but the last."""
        for part in self.parts[self._ran : -1]:
            self.run(part)

    def refit(
        self,
        parts: Sequence[LayerPiece],
        toward: Tensor,
        *,
        change: Sequence[LayerPiece] | None = None,
    ) -> None:
        """Refit what some parts write, so that the states after them come close to others.

        Args:
            parts: Consecutive parts, the first of them next to run.
            toward: The states wanted after the last of them.
            change: Those whose maps change, all by default; the others are fitted beside them.

        Raises:
            RepairError: Too little text for so many columns, or sums that are no numbers.
        """
        writers = [writer for part in parts for writer in part.writers]
        changing = [writer for part in change or parts for writer in part.writers]
        if not changing:
            return
        normed = [writer for writer in changing if writer.norm is not None]
        for _ in range(ROUNDS_BEHIND_A_NORM if normed else 1):
            fit = self._fit(parts, writers, toward, input_columns)
            if fit is None:
                break
            at = 0
            for writer in writers:
                if writer in changing:
                    self.add(writer, fit.change[at : at + writer.columns])
                at += writer.columns
            for writer in normed:
                self._refit_gains(parts, writer, toward)

    def refit_output(self, part: LayerPiece, toward: Tensor) -> None:
        """Put a matrix behind the map that a part writes with, folded into it.

        Raises:
            RepairError: Too little text, or sums that are no numbers.
        """
        writer = part.writers[-1]
        fit = self._fit([part], [writer], toward, output_columns)
        if fit is None:
            return
        more = fit.change / size_of_change(writer).to(fit.change)
        weight, bias = _wide(writer.module.weight).to(more), writer.module.bias
        folded = weight @ more if isinstance(writer.module, Conv1D) else more.T @ weight
        self.put(f"{writer.name}.weight", weight + folded)
        if bias is not None:
            wide = _wide(bias).to(more)
            self.put(f"{writer.name}.bias", wide + wide @ more)

    def run(self, part: LayerPiece) -> None:
        """Let the kept states go through the next part."""
        with part.alone():
            self.walk.kept = self.walk.through(part.layer, self.walk.kept)
        self._ran += 1

    def leave(self) -> None:
        """Let the kept states go through what has not run yet."""
        if self._left:
            return
        self._left = True
        if self._ran:
            for part in self.parts[self._ran :]:
                self.run(part)
        elif self.walk.unchanged(self.turn):
            self.walk.kept = self.walk.full.at(self.turn.layer + 1)
        else:
            self.walk.kept = self.walk.through(self.turn.layer, self.walk.kept)

    def add(self, writer: Writer, change: Tensor) -> None:
        """Change the weights of a writer so that `change` ``(columns, width)`` adds to the state.

        With x its inputs, the state after it becomes what it was plus x times the change, at the
        size that a norm behind it gives its output now.
        """
        change = change / size_of_change(writer).to(change)
        bias = writer.module.bias
        inputs = change if bias is None else change[:-1]
        inputs = inputs if isinstance(writer.module, Conv1D) else inputs.T
        self.put(f"{writer.name}.weight", _wide(writer.module.weight).to(inputs) + inputs)
        if bias is not None:
            self.put(f"{writer.name}.bias", _wide(bias).to(change) + change[-1])

    def put(self, name: str, value: Tensor) -> None:
        """Change a parameter of this layer."""
        self.walk.changes.put(f"{self.walk.stack.path}.{self.turn.layer}.{name}", value)

    def scale(self, writer: Writer, factor: float) -> None:
        """Multiply all that a writer adds to the state."""
        self.walk.hold(self.turn.layer)  # the walk may be past it
        if writer.norm is not None:
            for name, value in scaled_norm(writer.norm, factor).items():
                self.put(f"{writer.norm_name}.{name}", value)
            return
        for name, value in writer.module.named_parameters(recurse=False):
            self.put(f"{writer.name}.{name}", _wide(value) * factor)

    def _fit(
        self,
        parts: Sequence[LayerPiece],
        writers: Sequence[Writer],
        toward: Tensor,
        columns: Columns,
    ) -> Fit | None:
        fitted, held = Sums(), Sums()
        for rows in self.walk.fitting():
            with watched(writers) as seen:
                states = self._through(parts, rows)
            x = torch.cat([columns(writer, *seen[writer], states) for writer in writers], dim=-1)
            r, weights = toward[rows].float() - states.float(), token_weights(toward[rows])
            other = torch.arange(rows.start, rows.stop) % HELD_OUT == HELD_OUT - 1
            for sums, some in ((fitted, ~other), (held, other)):
                at = some.nonzero().flatten().to(x.device)
                sums.add(x[at].flatten(0, 1), r[at].flatten(0, 1), weights[at].flatten())
        maps, tokens = tuple(writer.name for writer in writers), fitted.tokens + held.tokens
        where = f"layer {self.turn.layer} ({', '.join(maps)})"
        check_sums(fitted, held, where, self.walk.model.dtype)
        fit = best_fit(fitted, held)
        ridge, explained = (None, 0.0) if fit is None else (fit.ridge, fit.explained)
        self.walk.refitted.append(Refitted(self.turn.layer, maps, ridge, explained, tokens))
        return fit

    def _refit_gains(self, parts: Sequence[LayerPiece], writer: Writer, toward: Tensor) -> None:
        """The gains of a norm: per channel, Δg = Σ ω u r / Σ ω u², u what the norm scales."""
        crossed = torch.zeros(writer.width, dtype=torch.float64)  # few numbers: on the CPU
        power = torch.zeros_like(crossed)
        for rows in self.walk.fitting():
            with watched([writer]) as seen:
                states = self._through(parts, rows)
            u = normed_direction(seen[writer][1]).view_as(states) * writer.factor
            r, weights = toward[rows].float() - states.float(), token_weights(toward[rows])
            crossed += (weights[..., None] * u * r).sum((0, 1)).cpu()
            power += (weights[..., None] * u * u).sum((0, 1)).cpu()
        assert writer.norm is not None
        gains = writer.norm.get_parameter("weight")
        more = crossed / power.clamp_min(1e-12 * float(power.max()))
        self.put(f"{writer.norm_name}.weight", _wide(gains).cpu() + more)

    def _through(self, parts: Sequence[LayerPiece], rows: slice) -> Tensor:
        states = self.walk.kept[rows]
        for part in parts:
            with part.alone():
                states = self.walk.run(part.layer, states, rows)
        return states


def _wide(weight: Tensor) -> Tensor:
    # MPS has no float64.
    weight = weight.detach()
    return (weight.cpu() if weight.device.type == "mps" else weight).double()
