"""From final states to observations: loss, KL to the full model, and agreement, in one pass.

Logits are made one block of the vocabulary at a time, in a buffer small enough to stay in cache,
and are read and overwritten where they lie: the whole ``tokens × vocabulary`` table never exists.

KL to the full model needs no second pass over the vocabulary where logits are linear in the state.
With the full model's prediction p, the rows w of the head and a state x,

    KL = log Σ_v exp(w_v · x) − Σ_v p_v (w_v · x) − H(p),
    where Σ_v p_v (w_v · x) = (Σ_v p_v w_v) · x:

so one vector per token, the expected row, is computed once for all coalitions.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from coterie.errors import ModelError
from coterie.game.coalitions import Observations

SAFE_EXPONENT = 60.0
"""Logits up to this size are exponentiated as they are: float32 overflows at 88."""


class Head(Protocol):
    """What turns final states into logits, a block of the vocabulary at a time."""

    @property
    def vocabulary(self) -> int:
        """Number of tokens a logit is given to."""

    @property
    def linear(self) -> bool:
        """Whether logits are an affine map of the state whose weights can be read."""

    def normed(self, states: Tensor) -> Tensor:
        """What stands between the last layer and the projection: usually a norm."""
        ...

    def logits(self, states: Tensor, start: int, stop: int) -> Tensor:
        """Float32 logits ``(n_tokens, stop - start)``; the caller may overwrite them.

        Args:
            states: After the norm, ``(n_tokens, width)``.
            start: First token of the vocabulary.
            stop: The one after the last.
        """
        ...

    def mean_rows(self, weights: Tensor, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Weighted sums of the rows and biases of the head: ``(n_tokens, width)``, ``(n_tokens,)``.

        Only a linear head has them.

        Args:
            weights: Of each token of the block, ``(n_tokens, stop - start)``.
            start: First token of the vocabulary.
            stop: The one after the last.
        """
        ...


@dataclass(frozen=True, eq=False)
class FullModel:
    """What the full model predicts on some sequences, kept to compare every coalition with.

    Axes are (n_sequences, n_predicted), then the width of the state where there is a third.
    """

    nll: Tensor
    likeliest: Tensor
    entropy: Tensor | None = None
    log_partition: Tensor | None = None
    expected_row: Tensor | None = None
    expected_bias: Tensor | None = None
    states: Tensor | None = None
    """States after the norm; kept only where the head is not linear."""

    def each(self, change: Callable[[Tensor], Tensor]) -> "FullModel":
        """Apply one change to every table of the prediction."""
        kept = {name: field for name, field in vars(self).items() if field is not None}
        return FullModel(**{name: change(field) for name, field in kept.items()})

    def __getitem__(self, rows: int | slice) -> "FullModel":
        return self.each(lambda field: field[rows])

    @classmethod
    def gathered(
        cls, gather: Callable[[list[Tensor]], Tensor], parts: list["FullModel"]
    ) -> "FullModel":
        """Several predictions with the same fields made one, by `torch.cat` or `torch.stack`."""
        kept = [name for name, field in vars(parts[0]).items() if field is not None]
        return cls(**{name: gather([getattr(part, name) for part in parts]) for name in kept})


@dataclass(frozen=True, eq=False)
class Reading:
    """Per predicted token of some states: shape ``(n_states, n_tokens)`` each, or finer."""

    nll: Tensor
    kl: Tensor
    agrees: Tensor


def read_states(
    head: Head, states: Tensor, targets: Tensor, full: FullModel, *, tokens: int, block: int
) -> Reading:
    """Read several final states of the same tokens against the full model.

    Args:
        head: The model's head.
        states: After the norm, ``(n_states, n_tokens, width)``.
        targets: The token to predict at each place, ``(n_tokens,)``.
        full: The full model on the same tokens, flattened to ``(n_tokens, …)``.
        tokens: Rows of logits that may exist at once.
        block: Columns of logits that may exist at once.
    """
    n_states, n_tokens, _ = states.shape
    # All states of one token are read together: the full model's part is made once for them.
    step = max(1, tokens // n_states)
    chunks = [
        _read_chunk(
            head, states[:, at : at + step], targets[at : at + step], full[at : at + step], block
        )
        for at in range(0, n_tokens, step)
    ]
    return Reading(
        *(
            torch.cat(parts, dim=1)
            for parts in zip(*(vars(c).values() for c in chunks), strict=True)
        )
    )


def observations(reading: Reading) -> Observations:
    """Means over the predicted tokens, the last axis: ``(n_states, n_sequences)``."""
    return Observations(*(np.atleast_2d(mean) for mean in means(reading).cpu().numpy()))


def means(reading: Reading) -> Tensor:
    """Means over the predicted tokens, where they were read: loss, KL and agreement, ``(3, …)``."""
    return torch.stack([part.double().mean(dim=-1) for part in vars(reading).values()])


def refuse_unless_finite(nll: Tensor, sequences: Sequence[int]) -> None:
    """Raise unless the full model has a finite loss ``(n_sequences, n_predicted)`` everywhere.

    Raises:
        ModelError: The full model cannot serve as what coalitions are compared with.
    """
    losses = nll.double().mean(dim=-1).tolist()
    for sequence, loss in zip(sequences, losses, strict=True):
        if not math.isfinite(loss):
            raise ModelError(
                f"the full model's loss on sequence {sequence} is {loss}, not finite: check its"
                " weights, or load it in another dtype (--dtype float32)"
            )


def _read_chunk(
    head: Head, states: Tensor, targets: Tensor, full: FullModel, block: int
) -> Reading:
    n_states, n_tokens, width = states.shape
    rows = states.reshape(-1, width)
    # Two logits of every row are needed: that of the target and that of the full model's choice.
    wanted = torch.stack([targets, full.likeliest], dim=1).repeat(n_states, 1)
    crossed = full.entropy is not None and not head.linear
    log_partition = rows.new_full((len(rows),), -torch.inf, dtype=torch.float32)
    highest = log_partition.clone()
    picked = torch.zeros(wanted.shape, dtype=torch.float32, device=rows.device)
    cross = log_partition.new_zeros(n_states, n_tokens)
    for start in range(0, head.vocabulary, block):
        stop = min(start + block, head.vocabulary)
        if crossed:
            expected = _probabilities(head, full, start, stop)
        logits = head.logits(rows, start, stop)
        if crossed:
            cross += (logits.view(n_states, n_tokens, -1) * expected).sum(dim=-1)
        _pick(picked, logits, wanted, start)
        top = logits.amax(dim=1)
        torch.maximum(highest, top, out=highest)
        # A running log-sum-exp: blocks are added as they come, none is kept.
        log_partition = torch.logaddexp(log_partition, _log_sum(logits, top))
    shape = (n_states, n_tokens)
    nll = (log_partition - picked[:, 0]).view(shape)
    agrees = (picked[:, 1] >= highest).view(shape)
    if full.entropy is None:
        return Reading(nll, torch.full_like(nll, torch.nan), agrees)
    if head.linear:
        assert full.expected_row is not None and full.expected_bias is not None
        # Σ_v p_v (w_v · x) = (Σ_v p_v w_v) · x: see the head of this module.
        cross = (states.float() * full.expected_row).sum(dim=-1) + full.expected_bias
    # KL = log Z(x) − Σ_v p_v logit_v(x) − H(p).
    return Reading(nll, log_partition.view(shape) - cross - full.entropy, agrees)


def read_full(
    head: Head, states: Tensor, targets: Tensor, *, kl: bool, tokens: int, block: int
) -> FullModel:
    """Read the full model itself: what every coalition will be compared with.

    Args:
        head: The model's head.
        states: Final states after the norm, ``(n_tokens, width)``.
        targets: The token to predict at each place, ``(n_tokens,)``.
        kl: Whether KL will be asked for.
        tokens: Rows of logits that may exist at once.
        block: Columns of logits that may exist at once.

    Returns:
        The prediction with one axis of tokens, ``(n_tokens, …)``.
    """
    chunks = [
        _full_chunk(head, states[at : at + tokens], targets[at : at + tokens], kl, block)
        for at in range(0, len(states), tokens)
    ]
    return FullModel.gathered(torch.cat, chunks)


def _full_chunk(head: Head, states: Tensor, targets: Tensor, kl: bool, block: int) -> FullModel:
    spans = [(at, min(at + block, head.vocabulary)) for at in range(0, head.vocabulary, block)]
    log_partition = states.new_full((len(states),), -torch.inf, dtype=torch.float32)
    highest = log_partition.clone()
    likeliest = torch.zeros_like(targets)
    at_target = torch.zeros_like(log_partition)
    for start, stop in spans:
        logits = head.logits(states, start, stop)
        _pick(at_target[:, None], logits, targets[:, None], start)
        # Strictly above: of equal logits in two blocks the first token wins.
        top, where = logits.max(dim=1)
        likeliest = torch.where(top > highest, where + start, likeliest)
        torch.maximum(highest, top, out=highest)
        log_partition = torch.logaddexp(log_partition, _log_sum(logits, top))
    nll = log_partition - at_target
    if not kl:
        return FullModel(nll, likeliest)
    # Second pass over the vocabulary: probabilities need the sum that the first one made.
    self_cross = torch.zeros_like(log_partition)
    row, bias = states.new_zeros(states.shape, dtype=torch.float32), torch.zeros_like(log_partition)
    for start, stop in spans:
        logits = head.logits(states, start, stop)
        probabilities = (logits - log_partition[:, None]).exp_()
        if head.linear:
            more_row, more_bias = head.mean_rows(probabilities, start, stop)
            row, bias = row + more_row, bias + more_bias
        else:
            self_cross += (probabilities * logits).sum(dim=1)
    if not head.linear:
        return FullModel(nll, likeliest, log_partition - self_cross, log_partition, states=states)
    # H(p) = log Z − Σ_v p_v logit_v.
    entropy = log_partition - ((states.float() * row).sum(dim=-1) + bias)
    return FullModel(
        nll,
        likeliest,
        entropy,
        log_partition,
        expected_row=row,
        expected_bias=bias,
    )


def _probabilities(head: Head, full: FullModel, start: int, stop: int) -> Tensor:
    """The full model's probabilities of one block: made once, for all states of the chunk."""
    assert full.states is not None and full.log_partition is not None
    logits = head.logits(full.states, start, stop)
    return (logits - full.log_partition[:, None]).exp_()


def _pick(picked: Tensor, logits: Tensor, wanted: Tensor, start: int) -> None:
    """Put the logits of the ``wanted`` tokens that lie in this block into ``picked``."""
    places = wanted - start
    inside = (places >= 0) & (places < logits.shape[1])
    found = logits.gather(1, places.clamp(0, logits.shape[1] - 1))
    picked.copy_(torch.where(inside, found, picked))


def _log_sum(logits: Tensor, top: Tensor) -> Tensor:
    """Log of the sum of exponentials of each row, given its maximum; overwrites the logits."""
    # Without the subtraction one pass is saved; on a GPU, asking would cost more than it saves.
    if logits.device.type == "cpu" and bool(top.abs().amax() < SAFE_EXPONENT):
        return logits.exp_().sum(dim=1).log_()
    return logits.sub_(top[:, None]).exp_().sum(dim=1).log_() + top
