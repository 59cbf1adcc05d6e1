"""How wide to batch: chosen once by a short probe, written down, and kept."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from time import perf_counter
from typing import TypeVar

import torch
from torch import Tensor

from coterie.evaluation.capture import LayerStack, Prelude
from coterie.evaluation.head import ProjectionHead
from coterie.evaluation.memory import is_out_of_memory
from coterie.evaluation.metrics import FullModel, read_states

Width = TypeVar("Width", int, tuple[int, int])

LONG_ENOUGH = 0.5
"""Seconds of one call beyond which a wider batch is not tried: the device is busy already."""

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


def probe_shape(layers: LayerStack, head: ProjectionHead, prelude: Prelude) -> BatchShape:
    """Time one layer and the head on a few widths; the narrowest within 2 % of the best wins.

    Args:
        layers: The layers; the middle one is timed.
        head: The head.
        prelude: Two sequences.
    """
    tokens, block = _probe_head(head, prelude.embedded)
    return BatchShape(_probe_rows(layers, prelude), tokens, block)


def _probe_rows(layers: LayerStack, prelude: Prelude) -> int:
    middle = layers.stack.n_players // 2
    length = prelude.embedded.shape[1]
    # A processor is busy with a few thousand tokens; a GPU is offered as many as it can hold.
    most = max(2, 2**12 // length) if prelude.embedded.device.type == "cpu" else 4096
    costs: dict[int, float] = {}
    rows = 1
    while rows <= most:
        width, copies = min(rows, 2), max(rows // 2, 1)
        state = torch.cat([prelude.embedded[:width]] * copies)
        seconds = _seconds(lambda: layers.run(prelude, middle, state, 0, copies))  # noqa: B023
        if seconds is None:
            break
        costs[rows] = seconds / rows
        if seconds > LONG_ENOUGH or costs[rows] > 1.2 * min(costs.values()):
            break
        rows *= 2
    return _narrowest(costs) if costs else 1


def _probe_head(head: ProjectionHead, embedded: Tensor) -> tuple[int, int]:
    if embedded.device.type != "cpu":
        return max(64, 2**28 // head.vocabulary), head.vocabulary
    probed = replace(head, width=min(head.vocabulary, PROBED_VOCABULARY))
    with torch.no_grad():
        states = head.normed(embedded).flatten(0, 1)
    costs: dict[tuple[int, int], float] = {}
    for tokens in (256, 1024):
        for block in sorted({min(size, probed.width) for size in (1024, 4096)}):
            rows = states.repeat(-(-tokens // len(states)), 1)[None, :tokens]
            targets = torch.zeros(tokens, dtype=torch.int64)
            full = FullModel(torch.zeros(tokens), targets)
            seconds = _seconds(
                lambda: read_states(probed, rows, targets, full, tokens=tokens, block=block)  # noqa: B023
            )
            if seconds is not None:
                costs[tokens, block] = seconds / tokens
        if not costs or max(costs.values()) * tokens > LONG_ENOUGH:
            break
    return _narrowest(costs) if costs else (64, min(1024, head.vocabulary))


def _narrowest(costs: dict[Width, float]) -> Width:
    best = min(costs.values())
    return min(width for width, cost in costs.items() if cost <= 1.02 * best)


def _seconds(call: Callable[[], object]) -> float | None:
    """The fastest of a few calls, or None where memory does not suffice."""
    took: list[float] = []
    try:
        with torch.no_grad():
            # On a shared machine only the fastest of several calls says what a call costs.
            while len(took) < 3 or (len(took) < 12 and sum(took) < LONG_ENOUGH / 4):
                start = perf_counter()
                call()
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                took.append(perf_counter() - start)
                if took[-1] > LONG_ENOUGH:
                    break
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            return None
        raise
    return min(took)
