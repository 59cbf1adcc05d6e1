"""GPU kernels for what layers do beside their products of matrices: norms, gates, rotations.

Each reads its input once and writes its result once, where plain operations go over copies in
float32, and each rounds where the plain operations round. Import this module only where the kernels
will run; without triton they say so when they are called.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None

BLOCK = 4096
"""Numbers of a gate that one program makes."""

if triton is not None:

    @triton.jit  # type: ignore[untyped-decorator]
    def _norm_row(
        x,
        weight,
        out,
        width,
        epsilon,
        ADDED: tl.constexpr,
        LATE: tl.constexpr,
        BLOCK: tl.constexpr,
    ):
        start = tl.program_id(0).to(tl.int64) * width
        columns = tl.arange(0, BLOCK)
        inside = columns < width
        given = tl.load(x + start + columns, mask=inside, other=0.0)
        value = given.to(tl.float32)
        mean = tl.sum(value * value, axis=0) / width
        value = value * tl.rsqrt(mean + epsilon)
        scale = tl.load(weight + columns, mask=inside, other=0.0).to(tl.float32)
        if LATE:  # rounded before it is scaled, as Llama does
            value = value.to(given.dtype).to(tl.float32)
        value = value * (scale + ADDED)
        tl.store(out + start + columns, value.to(given.dtype), mask=inside)

    @triton.jit  # type: ignore[untyped-decorator]
    def _gate_block(gate, up, out, count, BLOCK: tl.constexpr):
        places = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        inside = places < count
        given = tl.load(gate + places, mask=inside, other=0.0)
        value = given.to(tl.float32)
        opened = (value / (1.0 + tl.exp(-value))).to(given.dtype).to(tl.float32)
        value = opened * tl.load(up + places, mask=inside, other=0.0).to(tl.float32)
        tl.store(out + places, value.to(given.dtype), mask=inside)

    @triton.jit  # type: ignore[untyped-decorator]
    def _rotate_token(
        x,
        out,
        cosine,
        sine,
        heads,
        length,
        batch_stride,
        head_stride,
        place_stride,
        table_stride,
        HALF: tl.constexpr,
        HEADS: tl.constexpr,
    ):
        text = tl.program_id(0) // length
        place = tl.program_id(0) % length
        start = text.to(tl.int64) * batch_stride + place.to(tl.int64) * place_stride
        table = text.to(tl.int64) * table_stride + place * 2 * HALF
        half = tl.arange(0, HALF)
        head = tl.arange(0, HEADS)
        at = start + head[:, None] * head_stride + half[None, :]
        inside = (head < heads)[:, None] & (half >= 0)[None, :]
        first = tl.load(x + at, mask=inside, other=0.0)
        second = tl.load(x + at + HALF, mask=inside, other=0.0)
        kind = first.dtype
        low = first.to(tl.float32)
        high = second.to(tl.float32)
        cos_low = tl.load(cosine + table + half).to(tl.float32)[None, :]
        cos_high = tl.load(cosine + table + HALF + half).to(tl.float32)[None, :]
        sin_low = tl.load(sine + table + half).to(tl.float32)[None, :]
        sin_high = tl.load(sine + table + HALF + half).to(tl.float32)[None, :]
        # Each product is rounded before the two are added, as plain operations do.
        straight = (low * cos_low).to(kind).to(tl.float32)
        crossed = (high * sin_low).to(kind).to(tl.float32)
        tl.store(out + at, (straight - crossed).to(kind), mask=inside)
        straight = (high * cos_high).to(kind).to(tl.float32)
        crossed = (low * sin_high).to(kind).to(tl.float32)
        tl.store(out + at + HALF, (straight + crossed).to(kind), mask=inside)


def normed(x: Tensor, weight: Tensor, epsilon: float, *, added: float, late: bool) -> Tensor:
    """A root-mean-square norm over the last axis.

    Args:
        x: Contiguous, ``(…, width)``.
        weight: ``(width,)``.
        epsilon: Added to the mean square.
        added: Added to the weight.
        late: Whether the result is rounded before it is scaled.
    """
    _refuse_without_triton()
    width, out = x.shape[-1], torch.empty_like(x)
    block = triton.next_power_of_2(width)
    with _on(x):
        _norm_row[(x.numel() // width,)](
            x,
            weight,
            out,
            width,
            epsilon,
            ADDED=added,
            LATE=late,
            BLOCK=block,
            num_warps=min(16, max(1, block // 512)),
        )
    return out


def gate_times_up(gate: Tensor, up: Tensor) -> Tensor:
    """``silu(gate) * up`` of two contiguous tensors of one shape."""
    _refuse_without_triton()
    gate, up = gate.contiguous(), up.contiguous()
    out = torch.empty_like(gate)
    with _on(gate):
        blocks = -(-gate.numel() // BLOCK)
        _gate_block[(blocks,)](gate, up, out, gate.numel(), BLOCK=BLOCK, num_warps=8)
    return out


def rotated(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotary positions applied to queries or keys: ``x * cosine + rotate_half(x) * sine``.

    Args:
        x: ``(n_texts, n_heads, length, head_width)``, its last axis without gaps.
        cosine: Contiguous, ``(1 or n_texts, length, head_width)``.
        sine: The same.
    """
    _refuse_without_triton()
    out = torch.empty_like(x)
    if out.stride() != x.stride():  # a part of a wider tensor: the result has no gaps
        x = x.contiguous()
        out = torch.empty_like(x)
    n_texts, heads, length, width = x.shape
    with _on(x):
        _rotate_token[(n_texts * length,)](
            x=x,
            out=out,
            cosine=cosine,
            sine=sine,
            heads=heads,
            length=length,
            batch_stride=x.stride(0),
            head_stride=x.stride(1),
            place_stride=x.stride(2),
            table_stride=0 if len(cosine) == 1 else length * width,
            HALF=width // 2,
            HEADS=triton.next_power_of_2(heads),
            num_warps=4,
        )
    return out


def _on(tensor: Tensor) -> AbstractContextManager[object]:
    # A kernel starts on the current device, which with several need not be that of its input.
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


def _refuse_without_triton() -> None:
    if triton is None:
        raise RuntimeError("triton is not installed")
