"""How fast a checkpoint is and how much memory it takes: dense against cut, on this machine.

Models are timed in turn, round after round, so that whatever else the machine does falls on all of
them; a speed-up is the median of the ratios within a round. Times depend on the shape of the load
and hardly on its text, so the tokens are random (an expert model may route real text otherwise).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from inspect import signature
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
import torch
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from coterie.errors import UserError
from coterie.scores.peak_memory import peak_memory, synchronize
from coterie.scores.timing import Load, Speed, Timing

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class SpeedError(UserError):
    """A load that cannot be timed on this model or this machine."""


def measure_speed(
    models: Mapping[str, "PreTrainedModel"],
    load: Load,
    *,
    rng: np.random.Generator,
    rounds: int = 7,
    warmup: int = 2,
) -> dict[str, Speed]:
    """Time models under one load, in turn.

    Args:
        models: Each on its device, in evaluation mode.
        load: What is asked of each.
        rng: Draws the tokens.
        rounds: Timed rounds; the figures are medians over them.
        warmup: Rounds before them that are not counted; one more follows that measures memory.

    Raises:
        SpeedError: a load below 1, above a model's context, or above the memory there is.
    """
    if min(load.batch, load.context, rounds) < 1 or load.new_tokens < 2:
        raise SpeedError(f"{load} with {rounds} rounds: all must be at least 1, new_tokens 2")
    for name, model in models.items():
        _check_context(name, model, load)
    # 1. The same random tokens in every round.
    ids = {
        name: random_tokens(model, load.batch, load.context, rng) for name, model in models.items()
    }
    # 2. Warm up, look at memory once, then time: the models take turns within each round.
    table: dict[str, list[tuple[float, float, float]]] = {name: [] for name in models}
    extra: dict[str, int | None] = {}
    for turn in range(-1 - warmup, rounds):
        for name, model in models.items():
            with _out_of_memory_named(name, load):
                if turn == -1:  # apart from the timed rounds: to look at memory costs time
                    with peak_memory(model.device) as peak:
                        _one_round(model, ids[name], load.new_tokens)
                    extra[name] = peak()
                    continue
                row = _one_round(model, ids[name], load.new_tokens)
            if turn >= 0:
                table[name].append(row)
    # 3. One row of times per round becomes one timing per column.
    return {
        name: _speed(load, table[name], weight_bytes(model), extra[name])
        for name, model in models.items()
    }


def _speed(
    load: Load, rounds: list[tuple[float, float, float]], weights: int, extra: int | None
) -> Speed:
    prefill, first, following = (Timing(column) for column in zip(*rounds, strict=True))
    return Speed(
        load,
        prefill=prefill,
        first_token=first,
        next_token=following,
        weight_bytes=weights,
        extra_bytes=extra,
    )


def vocabulary_size(model: "PreTrainedModel") -> int:
    """Number of tokens the model reads."""
    return len(model.get_input_embeddings().weight)  # type: ignore[arg-type]


def weight_bytes(model: "PreTrainedModel") -> int:
    """Bytes of the parameters and buffers, tied ones once."""
    tensors = {id(tensor): tensor for tensor in [*model.parameters(), *model.buffers()]}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def random_tokens(
    model: "PreTrainedModel", batch: int, length: int, rng: np.random.Generator
) -> torch.Tensor:
    """Token ids ``(batch, length)`` on the model's device.

    Args:
        model: Whose vocabulary they are from.
        batch: Sequences.
        length: Tokens of each.
        rng: Draws them.
    """
    ids = rng.integers(vocabulary_size(model), size=(batch, length))
    return torch.from_numpy(ids).to(model.device)


NO_TOKEN = 2**31 - 1
"""No vocabulary has it: as end-of-text it never comes, and a generation has the length asked."""


def greedy_decoding(new_tokens: int) -> GenerationConfig:
    """Generate exactly this many tokens, the likeliest each time, whatever the model says."""
    return GenerationConfig(
        max_new_tokens=new_tokens,
        do_sample=False,
        num_beams=1,
        use_cache=True,
        eos_token_id=NO_TOKEN,
        pad_token_id=0,
    )


class Stopwatch(StoppingCriteria):
    """Never stops; notes when every token came."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.times: list[float] = []

    def __call__(  # type: ignore[override]
        self, input_ids: torch.Tensor, scores: torch.Tensor
    ) -> torch.Tensor:
        synchronize(self.device)
        self.times.append(perf_counter())
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


@torch.inference_mode()
def _one_round(
    model: "PreTrainedModel", ids: torch.Tensor, new_tokens: int
) -> tuple[float, float, float]:
    """Seconds of the prefill, to the first token, and from one token to the next."""
    keep = {"logits_to_keep": 1} if "logits_to_keep" in signature(model.forward).parameters else {}
    synchronize(model.device)
    start = perf_counter()
    model(input_ids=ids, use_cache=True, **keep)
    synchronize(model.device)
    # The prefill is timed by itself, for `generate` adds work of its own.
    prefill = perf_counter() - start

    watch = Stopwatch(model.device)
    start = perf_counter()
    model.generate(  # type: ignore[operator]
        ids,
        attention_mask=torch.ones_like(ids),
        generation_config=greedy_decoding(new_tokens),
        stopping_criteria=StoppingCriteriaList([watch]),
    )
    # The first step holds the prefill; the others are single tokens with the cache.
    steps = np.diff([start, *watch.times])
    return prefill, float(steps[0]), float(np.median(steps[1:]))


def _check_context(name: str, model: "PreTrainedModel", load: Load) -> None:
    config = model.config.get_text_config(decoder=True)
    # Beyond its context a model may crash, or give times of something it was not made for.
    limit = getattr(config, "max_position_embeddings", None)
    asked = load.context + load.new_tokens
    if isinstance(limit, int) and 0 < limit < asked:
        raise SpeedError(
            f"'{name}' reads {limit} tokens at once, and {load.context} + {load.new_tokens} new "
            "ones are asked: give a smaller context"
        )


@contextmanager
def _out_of_memory_named(name: str, load: Load) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise SpeedError(
            f"'{name}' with batch {load.batch} and context {load.context} does not fit the memory "
            "of its device: give a smaller batch or context"
        ) from error
