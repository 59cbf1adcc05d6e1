"""`bench`: how fast models are on this machine, and what memory they take."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from coterie.errors import UserError
from coterie.models.files.sources import Source, resolve
from coterie.models.loaded.load import load_model, pick_device
from coterie.report.figure.bench import draw_quality
from coterie.report.schema.bench import SpeedReport, SpeedRow, TimePart
from coterie.report.schema.evaluate import EstimatePart
from coterie.scores.speed import Load, Speed, SpeedError, Timing, measure_speed
from coterie.verbs.evaluate.run import EvaluateRequest, evaluate
from coterie.verbs.shared.defaults import context_of, dtype_of, name_of
from coterie.verbs.shared.progress import NoProgress, Progress
from coterie.verbs.shared.provenance import bare, machine, versions

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FIGURES = (".svg", ".png", ".pdf")


@dataclass(frozen=True)
class BenchRequest:
    """Which models, under which loads.

    Args:
        models: Hub ids, local folders or ``"reference"``; the first is compared with.
        batches: Texts side by side.
        contexts: Tokens each text starts with; every batch is measured with every context.
        new_tokens: Tokens generated after them.
        text: Text for quality; None for the default of `evaluate`.
        figure: Where to draw perplexity against speed, or None.
    """

    models: tuple[str, ...]
    batches: tuple[int, ...] = (1,)
    contexts: tuple[int, ...] = (128,)
    new_tokens: int = 32
    rounds: int = 7
    warmup: int = 2
    text: str | None = None
    figure: Path | None = None
    device: str = "auto"
    dtype: str = "auto"
    trust_remote_code: bool = False
    seed: int = 0

    def check(self) -> None:
        """Refuse what can be refused before anything is loaded.

        Raises:
            UserError: one clear line about the first thing that is wrong.
        """
        self.judging().check()
        for option, numbers in (("batch", self.batches), ("context", self.contexts)):
            if min(numbers, default=0) < 1:
                raise UserError(f"--{option} {','.join(map(str, numbers))}: all must be at least 1")
        if self.rounds < 1 or self.warmup < 0 or self.new_tokens < 2:
            raise UserError("--rounds must be at least 1, --warmup 0, --new-tokens 2")
        if self.figure is not None and self.figure.suffix not in FIGURES:
            raise UserError(f"--figure {self.figure.name}: end it in {', '.join(FIGURES)}")
        if self.figure is not None and not self.figure.resolve().parent.is_dir():
            raise UserError(f"the folder of --figure {self.figure.name} is not there: make it")

    def judging(self) -> EvaluateRequest:
        """The evaluation that gives the quality of these models."""
        return EvaluateRequest(
            models=self.models,
            texts=() if self.text is None else (self.text,),
            device=self.device,
            dtype=self.dtype,
            trust_remote_code=self.trust_remote_code,
            seed=self.seed,
        )

    def command(self) -> str:
        """The command line that asks for this, every path in it reduced to its last part."""
        words = ["coterie", "bench", *(str(bare(model)) for model in self.models)]
        words += ["--batch", ",".join(map(str, self.batches))]
        words += ["--context", ",".join(map(str, self.contexts))]
        plain = BenchRequest(self.models)
        for name in ("new_tokens", "rounds", "warmup", "device", "dtype", "seed"):
            if (value := getattr(self, name)) != getattr(plain, name):
                words += [f"--{name.replace('_', '-')}", str(value)]
        words += ["--text", str(bare(self.text))] if self.text else []
        words += ["--figure", self.figure.name] if self.figure else []
        return shlex.join(words)


def bench(
    request: BenchRequest, *, store: Path | str | None = None, progress: Progress | None = None
) -> SpeedReport:
    """Time models in turn under every load; optionally beside their quality.

    Args:
        store: SQLite file that keeps the perplexities of the figure; None is the user's cache.
        request: Which models, under which loads.
        progress: Shows what is being done.

    Raises:
        UserError: something asked cannot be done, in one line.
    """
    request.check()
    progress = progress or NoProgress()
    sources = [
        resolve(name, trust_remote_code=request.trust_remote_code) for name in request.models
    ]
    names = [source.name for source in sources]
    if len(set(names)) < len(names):
        raise UserError(f"two models have the name {names[0]}: rename one of the folders")
    device = pick_device(request.device)
    dtype, _ = dtype_of(request.dtype, device)
    _check_contexts(request, sources)
    quality: dict[str, EstimatePart] = {}
    told = None
    if request.figure is not None:
        rows = evaluate(request.judging(), store=store, progress=progress).models
        quality = {row.name: row.perplexity[0].perplexity for row in rows}
        told = rows[0].perplexity[0].text
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
        quality_text=told,
        versions=versions(),
        machine=machine(torch.get_num_threads(), str(device)),
    )
    if request.figure is not None:
        _draw(report, request.figure)
    return report


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
        prefill_speedup=first.prefill.over(speed.prefill).median,
        decode_speedup=first.next_token.over(speed.next_token).median,
        weight_bytes=speed.weight_bytes,
        extra_bytes=speed.extra_bytes,
    )


def _part(timing: Timing) -> TimePart:
    low, high = timing.quartiles
    return TimePart(median=timing.median, low=low, high=high)


def _check_contexts(request: BenchRequest, sources: list[Source]) -> None:
    asked = max(request.contexts) + request.new_tokens
    for source in sources:
        limit = context_of(source)
        if limit is not None and limit < asked:
            raise SpeedError(
                f"'{source.name}' reads {limit} tokens at once, and {max(request.contexts)} + "
                f"{request.new_tokens} new ones are asked: give a smaller --context"
            )


def _draw(report: SpeedReport, figure: Path) -> None:
    """Draw beside, then rename, so that the figure is whole or not there."""
    aside = figure.with_name(f".{figure.stem}.partial{figure.suffix}")
    try:
        draw_quality(report, aside)
        aside.replace(figure)
    finally:
        aside.unlink(missing_ok=True)
