"""Final states read in one pass over logits that stay as the projection wrote them.

On a GPU the projection takes little longer than reading its result, so what `readings` does in
several passes over float32 logits costs as much as the projection itself. Here a kernel reads each
logit once. What is read, and how it is defined, is the same.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from coterie.engine.parts.head import ProjectionHead
from coterie.engine.parts.readings import FullModel, Reading

TILE = 64
"""Tokens of which a chunk has a multiple."""

RowsRead = Callable[[Tensor, Tensor, Tensor | None, Tensor | None], Tensor]
"""What `row_kernel.rows_read` does, by a kernel or by `rows_read_plainly`."""


def read_in_one_pass(
    head: ProjectionHead,
    states: Tensor,
    targets: Tensor,
    full: FullModel,
    *,
    rows: int,
    rows_read: RowsRead,
) -> Reading:
    """Read several final states of the same tokens against the full model, as `read_states` does.

    Args:
        head: The model's head.
        states: After the norm, ``(n_states, n_tokens, width)``.
        targets: The token to predict at each place, ``(n_tokens,)``.
        full: The full model on the same tokens, flattened to ``(n_tokens, …)``.
        rows: Rows of logits that may exist at once.
        rows_read: What reads them.
    """
    n_states, n_tokens, width = states.shape
    # Whole tiles of tokens, where there are that many, keep the projection's kernel even.
    step = max(1, rows // n_states)
    step -= step % TILE if step > TILE else 0
    wanted = torch.stack([targets, full.likeliest], dim=1)
    crossed = full.entropy is not None and not head.linear
    parts = []
    for at in range(0, n_tokens, step):
        here = slice(at, at + step)
        whole, partition = None, None
        if crossed:
            assert full.states is not None and full.log_partition is not None
            whole, partition = head.made(full.states[here]), full.log_partition[here]
        logits = head.made(states[:, here].reshape(-1, width))
        read = rows_read(logits, wanted[here], whole, partition)
        parts.append(read.unflatten(0, (n_states, -1)))
    log_partition, highest, at_target, at_choice, cross = torch.cat(parts, dim=1).unbind(-1)
    nll, agrees = log_partition - at_target, at_choice >= highest
    if full.entropy is None:
        return Reading(nll, torch.full_like(nll, torch.nan), agrees)
    if head.linear:
        assert full.expected_row is not None and full.expected_bias is not None
        cross = (states.float() * full.expected_row).sum(dim=-1) + full.expected_bias
    # KL = log Z(x) − Σ_v p_v logit_v(x) − H(p).
    return Reading(nll, log_partition - cross - full.entropy, agrees)


def rows_read_plainly(
    logits: Tensor, wanted: Tensor, whole: Tensor | None, partition: Tensor | None
) -> Tensor:
    """What the kernel gives, by plain operations: what it is checked against.

    Args:
        logits: ``(n_states * n_tokens, vocabulary)``, all tokens of one state after another.
        wanted: The two tokens whose logits are picked, ``(n_tokens, 2)``.
        whole: The full model's logits, ``(n_tokens, vocabulary)``, or None.
        partition: The full model's log partition, ``(n_tokens,)``, or None.

    Returns:
        Log partition, maximum, two picked logits and Σ_v p_v logit_v: ``(n_states * n_tokens, 5)``.
    """
    exact = logits.float()
    times = len(logits) // len(wanted)
    cross = exact.new_zeros(len(logits))
    if whole is not None and partition is not None:
        expected = (whole.float() - partition[:, None]).exp()
        cross = (exact.unflatten(0, (times, -1)) * expected).sum(dim=-1).flatten()
    picked = exact.gather(1, wanted.repeat(times, 1))
    parts = [exact.logsumexp(dim=1), exact.amax(dim=1), picked[:, 0], picked[:, 1], cross]
    return torch.stack(parts, dim=1)
