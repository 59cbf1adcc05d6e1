"""How wide to batch: chosen once by a short probe, written down, and kept."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from time import perf_counter
from typing import TypeVar

import torch
from torch import Tensor, nn

from coterie.engine.memory import is_out_of_memory
from coterie.engine.parts.blocks import Steps
from coterie.engine.parts.head import ProjectionHead
from coterie.engine.parts.layers import Prelude
from coterie.engine.parts.readings import FullModel, read_states

Width = TypeVar("Width", int, tuple[int, int])

LONG_ENOUGH = 0.5
"""Seconds of one call beyond which a wider batch is not tried: the device is busy already."""

BUSY = 0.03
"""The same on a GPU, which is busy with a call of some hundredths of a second."""

LAYER_SHARE = 1 / 16
"""Share of a GPU's memory that one call of a layer may take, its own weights aside."""

TURNS, PATIENCE = 9, 1.0
"""Times each width is tried, and the seconds after which two times are enough."""

PROBED_VOCABULARY = 8192
"""Columns of logits the head is timed on; the cost of a block does not depend on their number."""


@dataclass(frozen=True)
class BatchShape:
    """How much is computed at once.

    Attributes:
        rows: Sequences, over all coalitions of a batch, in one call of a layer.
        head_tokens: Rows of logits made at once.
        head_block: Columns of logits made at once.
    """

    rows: int
    head_tokens: int
    head_block: int

    def to_dict(self) -> dict[str, int]:
        """The shape as plain numbers, to be stored."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, int]) -> "BatchShape":
        """The shape that `to_dict` wrote."""
        return cls(**{name: int(value) for name, value in fields.items()})


def probe_shape(layers: Steps, head: ProjectionHead, prelude: Prelude) -> BatchShape:
    """Time one layer and the head on a few widths; the narrowest within 2 % of the best wins.

    Args:
        layers: The layers; the middle one is timed.
        head: The head.
        prelude: Two sequences.
    """
    tokens, block = _probe_head(head, prelude.embedded)
    return BatchShape(_probe_rows(layers, prelude), tokens, block)


def _probe_rows(layers: Steps, prelude: Prelude) -> int:
    middle = len(layers.plays) // 2
    length = prelude.embedded.shape[1]
    # A processor is busy with a few thousand tokens, and with a few hundred the overhead of calls
    # is small; a GPU is offered as many as it can hold.
    device = prelude.embedded.device
    on_cpu = device.type == "cpu"
    least, most = (max(1, 512 // length), max(1, 4096 // length))
    if not on_cpu:
        least, most = max(1, 1024 // length), _rows_that_fit(layers, length, device)

    def call(rows: int) -> None:
        copies = max(rows // 2, 1)
        state = torch.cat([prelude.embedded[: min(rows, 2)]] * copies)
        layers.run(prelude, middle, state, 0, copies)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    widths = [2**power for power in range(13) if least <= 2**power <= most] or [most]
    calls: dict[int, Callable[[], object]] = {rows: partial(call, rows) for rows in widths}
    seconds = _fastest(calls) if on_cpu else _fastest(calls, BUSY, warm=True)
    return _narrowest({rows: took / rows for rows, took in seconds.items()}, 1)


def _rows_that_fit(layers: Steps, length: int, device: torch.device) -> int:
    """Rows that one layer may take on a GPU: its working memory is a small share of the card's."""
    total = torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else 2**36
    middle = layers.stack.layers[len(layers.stack.layers) // 2]
    return max(1, int(LAYER_SHARE * total / (length * bytes_per_token(middle))))


def bytes_per_token(layer: nn.Module) -> int:
    """Most bytes that one token takes while a layer runs, counted from its weights.

    Every matrix writes what it makes, the widest of these twice more in between, and norms work on
    copies in float32.
    """
    matrices = [p for p in layer.parameters() if p.dim() == 2]
    widths = [max(p.shape) * p.element_size() for p in matrices]
    made = sum(p.shape[0] * p.element_size() for p in matrices)
    narrow = min((min(p.shape) for p in matrices), default=1024)
    return made + 2 * max(widths, default=4096) + 16 * narrow


def _probe_head(head: ProjectionHead, embedded: Tensor) -> tuple[int, int]:
    if embedded.device.type != "cpu":
        return max(64, 2**28 // head.vocabulary), head.vocabulary
    if not head.readable:  # every block would run the whole projection
        return max(16, 2**25 // head.vocabulary), head.vocabulary
    probed = replace(head, width=min(head.vocabulary, PROBED_VOCABULARY))
    with torch.no_grad():
        states = head.normed(embedded).flatten(0, 1)

    def call(tokens: int, block: int) -> object:
        rows = states.repeat(-(-tokens // len(states)), 1)[None, :tokens]
        targets = torch.zeros(tokens, dtype=torch.int64)
        full = FullModel(torch.zeros(tokens), targets)
        return read_states(probed, rows, targets, full, tokens=tokens, block=block)

    blocks = sorted({min(size, probed.width) for size in (1024, 4096)})
    widths = [(tokens, block) for tokens in (256, 1024) for block in blocks]
    seconds = _fastest({width: partial(call, *width) for width in widths})
    return _narrowest({width: took / width[0] for width, took in seconds.items()}, widths[0])


def _narrowest(costs: dict[Width, float], smallest: Width) -> Width:
    best = min(costs.values(), default=0.0)
    # Within 2 % is noise: the narrower leaves more memory to the states.
    return min((width for width, cost in costs.items() if cost <= 1.02 * best), default=smallest)


def _fastest(
    calls: dict[Width, Callable[[], object]], enough: float = LONG_ENOUGH, *, warm: bool = False
) -> dict[Width, float]:
    """The shortest time of each call, in seconds; one too long, or too large, ends the trial.

    The calls take turns, so that whatever else disturbs the machine disturbs all of them alike.

    Args:
        calls: What to time, by width, the narrowest first.
        enough: Seconds of one call beyond which nothing wider is tried.
        warm: Whether the first call of a width, which loads kernels on a GPU, is not timed.
    """
    best: dict[Width, float] = {}
    began = perf_counter()
    for turn in range(TURNS):
        for width, call in list(calls.items()):
            if turn and width not in best:
                continue
            took = _seconds(call)
            if warm and turn == 0 and took is not None:
                took = _seconds(call)
            if took is None:
                best.pop(width, None)
                break
            best[width] = min(took, best.get(width, took))
            if turn == 0 and took > enough:
                break
        if turn and perf_counter() - began > PATIENCE:
            break
    return best


def _seconds(call: Callable[[], object]) -> float | None:
    """How long a call takes, or None where memory does not suffice."""
    start = perf_counter()
    try:
        with torch.no_grad():
            call()
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            return None
        raise
    return perf_counter() - start
