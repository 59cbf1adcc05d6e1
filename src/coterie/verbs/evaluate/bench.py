"""`bench`: how fast models are on this machine, and what memory they take."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from coterie.models.files.sources import Source, resolve
from coterie.models.loaded.load import load_model, pick_device
from coterie.report.figure.bench import draw_quality
from coterie.report.schema.bench import SpeedReport, SpeedRow, TimePart
from coterie.report.schema.evaluate import EstimatePart
from coterie.scores.speed import SpeedError, measure_speed
from coterie.scores.timing import Load, Speed, Timing
from coterie.verbs.evaluate.bench_request import BenchRequest
from coterie.verbs.evaluate.run import perplexities
from coterie.verbs.outputs.output_file import OutputFile
from coterie.verbs.outputs.reads import model_read, reads_of
from coterie.verbs.shared.defaults import context_of, dtype_of, name_of
from coterie.verbs.shared.entry import public
from coterie.verbs.shared.names import told_apart
from coterie.verbs.shared.progress import NoProgress, Progress
from coterie.verbs.shared.provenance import machine, versions

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@public
def bench(
    request: BenchRequest, *, store: Path | str | None = None, progress: Progress | None = None
) -> SpeedReport:
    """Time models in turn under every load; optionally beside their quality.

    >>> from coterie import BenchRequest, bench
    >>> load = {"contexts": (8,), "new_tokens": 2, "rounds": 1, "warmup": 0}
    >>> [row.name for row in bench(BenchRequest(("reference",), **load)).rows]
    ['reference']

    Args:
        store: SQLite file that keeps the perplexities of the figure; None is the user's cache.
        request: Which models, under which loads.
        progress: Shows what is being done.

    Raises:
        UserError: something asked cannot be done, in one line.
    """
    request.check()
    progress = progress or NoProgress()
    sources = _sources(request)
    figure = _figure(request, sources, store)
    device = pick_device(request.device)
    dtype, _ = dtype_of(request.dtype, device)
    _check_contexts(request, sources)
    quality, text = _quality(request, store, progress)
    # All in memory at once: they are timed in turn, so that a busy machine slows each alike.
    models = {}
    for source in sources:
        progress.say(f"loading {source.name} in {name_of(dtype)} on {device}")
        models[source.name] = load_model(source, dtype=dtype, device=device)
    report = SpeedReport(
        kind="bench",
        command=request.command(),
        dtype=name_of(dtype),
        device=str(device),
        rounds=request.rounds,
        warmup=request.warmup,
        rows=_timed(request, models, progress),
        quality=quality,
        quality_text=text,
        versions=versions(),
        machine=machine(torch.get_num_threads(), str(device)),
    )
    if figure is not None:
        figure.fill(partial(draw_quality, report))
    return report


def _sources(request: BenchRequest) -> list[Source]:
    """The models, no two of one name: a row is known by it alone."""
    sources = [
        resolve(name, trust_remote_code=request.trust_remote_code) for name in request.models
    ]
    return told_apart(sources, request.models)


def _figure(
    request: BenchRequest, sources: list[Source], store: Path | str | None
) -> OutputFile | None:
    """The file of the figure, kept apart from all that is read; refused before all work."""
    if request.figure is None:
        return None
    reads = [*reads_of(request, store), *(model_read(source.folder) for source in sources)]
    figure = OutputFile(request.figure, "--figure", reads)
    figure.check()
    return figure


def _quality(
    request: BenchRequest, store: Path | str | None, progress: Progress
) -> tuple[dict[str, EstimatePart], str | None]:
    """Perplexity by model, and the text it was measured on; none where no figure is asked for."""
    if request.figure is None:
        return {}, None
    # Before the models are loaded to be timed: evaluating loads them one by one.
    rows = perplexities(request.judging(), store=store, progress=progress).models
    quality = {row.name: row.perplexity[0].perplexity for row in rows}
    return quality, rows[0].perplexity[0].text


def _timed(
    request: BenchRequest, models: dict[str, "PreTrainedModel"], progress: Progress
) -> list[SpeedRow]:
    loads = [
        Load(batch, context, request.new_tokens)
        for batch in request.batches
        for context in request.contexts
    ]
    rng = np.random.default_rng(request.seed)
    rows = []
    for place, load in enumerate(loads):
        progress.step("timing", place, len(loads))
        speeds = measure_speed(models, load, rng=rng, rounds=request.rounds, warmup=request.warmup)
        first = next(iter(speeds.values()))
        rows += [_row(name, speed, first) for name, speed in speeds.items()]
        progress.step("timing", place + 1, len(loads))
    return rows


def _row(name: str, speed: Speed, first: Speed) -> SpeedRow:
    prefill = first.prefill.over(speed.prefill)
    decode = first.next_token.over(speed.next_token)
    return SpeedRow(
        name=name,
        batch=speed.load.batch,
        context=speed.load.context,
        new_tokens=speed.load.new_tokens,
        prefill=_part(speed.prefill),
        first_token=_part(speed.first_token),
        next_token=_part(speed.next_token),
        prefill_tokens_per_second=speed.prefill_tokens_per_second,
        decode_tokens_per_second=speed.decode_tokens_per_second,
        prefill_speedup=prefill.median,
        decode_speedup=decode.median,
        prefill_speedup_error=prefill.error,
        decode_speedup_error=decode.error,
        weight_bytes=speed.weight_bytes,
        extra_bytes=speed.extra_bytes,
    )


def _part(timing: Timing) -> TimePart:
    # Quartiles, not a standard error: times have a long tail.
    low, high = timing.quartiles
    return TimePart(median=timing.median, low=low, high=high)


def _check_contexts(request: BenchRequest, sources: list[Source]) -> None:
    # The longest load decides; it is known before a model is loaded.
    asked = max(request.contexts) + request.new_tokens
    for source in sources:
        limit = context_of(source)
        if limit is not None and limit < asked:
            raise SpeedError(
                f"'{source.name}' reads {limit} tokens at once, and {max(request.contexts)} + "
                f"{request.new_tokens} new ones are asked: give a smaller --context"
            )
