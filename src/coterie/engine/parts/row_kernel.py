"""A GPU kernel that reads what losses and KL need off ready logits, in one pass over them.

The float32 table, its shifted copy and its exponentials never exist: a row is read once, as the
projection wrote it, and leaves five numbers. Import this module only where the kernel will run;
without triton it says so when it is called.
"""

from contextlib import nullcontext

import torch
from torch import Tensor

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None

COLUMNS, WARPS = 4096, 8
"""Columns of one row that a program reads at a time, and the warps it has."""

if triton is not None:
    # Not specialised: how many states and tokens are read together varies from call to call.
    @triton.jit(do_not_specialize=["n_states", "n_tokens"])  # type: ignore[untyped-decorator]
    def _read_row(
        logits,
        wanted,
        whole,
        whole_partition,
        out,
        n_states,
        n_tokens,
        vocabulary,
        logits_stride,
        whole_stride,
        CROSSED: tl.constexpr,
        BLOCK: tl.constexpr,
    ):
        # Neighbouring programs read states of one token: the full model's row stays in cache.
        token = tl.program_id(0) // n_states
        row = (tl.program_id(0) % n_states) * n_tokens + token
        mine = logits + row.to(tl.int64) * logits_stride
        theirs = whole + token.to(tl.int64) * whole_stride
        lanes = tl.arange(0, BLOCK)
        total = tl.zeros([BLOCK], dtype=tl.float32)
        cross = tl.zeros([BLOCK], dtype=tl.float32)
        top = -float("inf")
        if CROSSED:
            partition = tl.load(whole_partition + token)
        for start in range(0, vocabulary, BLOCK):
            columns = start + lanes
            inside = columns < vocabulary
            x = tl.load(mine + columns, mask=inside, other=-float("inf")).to(tl.float32)
            higher = tl.maximum(top, tl.max(x, axis=0))
            # A block of nothing but -inf has no finite maximum: it adds zeros, not NaN.
            level = tl.where(higher == -float("inf"), 0.0, higher)
            total = total * tl.exp(top - level) + tl.exp(x - level)
            top = higher
            if CROSSED:
                full = tl.load(theirs + columns, mask=inside, other=-float("inf")).to(tl.float32)
                cross += tl.exp(full - partition) * tl.where(inside, x, 0.0)
        summed = tl.sum(total, axis=0)
        level = tl.where(top == -float("inf"), 0.0, top)
        target = tl.load(mine + tl.load(wanted + 2 * token)).to(tl.float32)
        choice = tl.load(mine + tl.load(wanted + 2 * token + 1)).to(tl.float32)
        # The maximum may have passed over a NaN; the sum has not.
        top = tl.where(summed != summed, float("nan"), top)
        out += row * 5
        tl.store(out, tl.log(summed) + level)
        tl.store(out + 1, top)
        tl.store(out + 2, target)
        tl.store(out + 3, choice)
        tl.store(out + 4, tl.sum(cross, axis=0))


def rows_read(
    logits: Tensor, wanted: Tensor, whole: Tensor | None, partition: Tensor | None
) -> Tensor:
    """Log of the partition, maximum, two picked logits and the cross term of every row.

    Args:
        logits: ``(n_states * n_tokens, vocabulary)``, all tokens of one state after another.
        wanted: The two tokens whose logits are picked, ``(n_tokens, 2)``.
        whole: The full model's logits, ``(n_tokens, vocabulary)``; None gives zeros for the cross
            term Σ_v p_v logit_v.
        partition: The full model's log partition, ``(n_tokens,)``.

    Returns:
        Shape ``(n_states * n_tokens, 5)``, float32.

    Raises:
        RuntimeError: triton is not installed.
    """
    if triton is None:
        raise RuntimeError("triton is not installed")
    n_rows, vocabulary = logits.shape
    n_tokens = len(wanted)
    out = torch.empty(n_rows, 5, dtype=torch.float32, device=logits.device)
    crossed = whole is not None and partition is not None
    beside = logits if whole is None else whole
    # A kernel starts on the current device, which with several need not be that of the logits.
    here = torch.cuda.device(logits.device) if logits.is_cuda else nullcontext()
    with here:
        _read_row[(n_rows,)](
            logits=logits,
            wanted=wanted,
            whole=beside,
            whole_partition=out if partition is None else partition,
            out=out,
            n_states=n_rows // n_tokens,
            n_tokens=n_tokens,
            vocabulary=vocabulary,
            logits_stride=logits.stride(0),
            whole_stride=beside.stride(0),
            CROSSED=crossed,
            BLOCK=COLUMNS,
            num_warps=WARPS,
        )
    return out
