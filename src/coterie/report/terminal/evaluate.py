"""What models score on texts and tasks, as tables on a terminal."""

import math

from rich.console import Console

from coterie.report import words as w
from coterie.report.schema.evaluate import (
    EstimatePart,
    Judgement,
    ModelRow,
    PerplexityRow,
    TaskRow,
)
from coterie.report.terminal.fitted import print_fitted
from coterie.report.terminal.generation import print_generation, print_warning
from coterie.report.terminal.significance import print_significance


def print_judgement(found: Judgement, console: Console | None = None) -> None:
    """Print one row a model, one column a measure."""
    out = console or Console(highlight=False)
    models = found.models
    first = models[0]
    # All models were asked the same texts and tasks, so the first one's give the columns.
    several = len(first.perplexity) > 1
    heads = ["model", "parameters", "on disk"]
    numbers = range(1, len(first.perplexity) + 1)
    heads += [f"perplexity {number}" if several else "perplexity" for number in numbers]
    near = any(model.beside for model in models)
    heads += ["KL to the first", "same choice"] if near else []
    heads += [f"{task.task} ({task.metric})" for task in first.tasks]
    rows = []
    for model in models:
        cells = [model.name, w.count(model.parameters), w.size(model.bytes)]
        cells += [_perplexity(row) for row in model.perplexity]
        cells += _nearness(model) if near else []
        cells += [_task(row) for row in model.tasks]
        if first.average is not None:
            cells.append(_score(model.average, 100))
        rows.append(cells)
    print_fitted([*heads, *(["average"] if first.average is not None else [])], rows, out)
    for line in _notes(found):
        out.print(f"[dim]{line}[/dim]")
    if found.significance is not None:
        print_significance(found.significance, out)
    _print_written(found, out)


def _nearness(model: ModelRow) -> list[str]:
    """How near a model is to the first; dashes for the first itself."""
    if (near := model.beside) is None:
        return ["–", "–"]
    return [w.or_dash(near.kl, "{:.4f}"), "–" if near.top1 is None else f"{near.top1:.1%}"]


def _print_written(found: Judgement, out: Console) -> None:
    """What each model writes beside the first, in red where it broke."""
    first = found.models[0]
    for model in found.models[1:]:
        if model.beside is None or (part := model.beside.generation) is None:
            continue
        ratio = _ratio(model.perplexity[0], first.perplexity[0])
        out.print(f"\n[bold]{model.name}[/bold]")
        print_warning(part, ratio, out)
        print_generation(part, out, first.name)


def _ratio(one: PerplexityRow, first: PerplexityRow) -> float:
    """Of two perplexities; infinite where either is not known."""
    if one.perplexity.mean is None or not first.perplexity.mean:
        return math.inf
    return one.perplexity.mean / first.perplexity.mean


def _perplexity(row: PerplexityRow) -> str:
    lines = [_score(row.perplexity)]
    if row.difference is not None:
        lines.append(f"{_signed(row.difference)} nats")
    return "\n".join(lines)


def _task(row: TaskRow) -> str:
    # Accuracies in per cent; a metric such as perplexity as it is.
    times = 100 if row.chance is not None or row.metric.startswith("acc") else 1
    lines = [_score(row.score, times) + (" at chance" if row.at_chance else "")]
    if row.difference is not None:
        lines.append(_signed(row.difference, times))
    return "\n".join(lines)


def _score(part: EstimatePart | None, times: float = 1) -> str:
    if part is None or part.mean is None:
        return "–"
    error = None if part.error is None else times * part.error
    # One decimal in per cent is about what the standard errors allow.
    pattern = "{:.1f}" if times == 100 else "{:.3f}"
    return f"{pattern.format(times * part.mean)} ± {w.or_dash(error, pattern)}"


def _signed(part: EstimatePart, times: float = 1) -> str:
    if part.mean is None:
        return "–"
    error = None if part.error is None else times * part.error
    decimals = 1 if times == 100 else 4
    return f"{times * part.mean:+.{decimals}f} ± {w.or_dash(error, f'{{:.{decimals}f}}')}"


def _notes(found: Judgement) -> list[str]:
    first = found.models[0]
    several = len(first.perplexity) > 1
    lines = [
        f"{f'perplexity {number}, ' if several else ''}{row.text}: {row.sequences} sequences ×"
        f" {row.length} tokens of {row.documents} documents,"
        f" {'BOS first' if row.bos else 'no BOS'}"
        for number, row in enumerate(first.perplexity, 1)
    ]
    if first.tasks:
        # Tasks may have fewer items than asked for.
        items = sorted({row.items for row in first.tasks})
        told = f"{items[0]}" if len(items) == 1 else f"{items[0]} to {items[-1]}"
        lines.append(
            f"tasks: {told} items each, in per cent; "
            f"{first.tasks[0].provenance.get('shots')} shots, lm-eval "
            f"{first.tasks[0].provenance.get('lm_eval')}"
        )
    # Said only where it happened: each of these changes how a score is read.
    cut = sum(row.truncated for model in found.models for row in model.tasks)
    if cut:
        lines.append(f"{cut} contexts were longer than a model reads and lost their beginning")
    bad = sum(row.not_finite for model in found.models for row in model.perplexity)
    if bad:
        lines.append(f"{bad} losses were not finite and were read as the floor")
    if any(row.at_chance for model in found.models for row in model.tasks):
        lines.append("at chance: within two standard errors of guessing, so it tells nothing")
    paired = f"; below, the paired difference to {first.name}" if len(found.models) > 1 else ""
    # Tokens differ where tokenizers do, and so does every loss per token.
    unpaired = any(row.difference is None for model in found.models[1:] for row in model.perplexity)
    if unpaired:
        lines.append("tokenizers differ: losses per token are not comparable and are not paired")
    return [*lines, f"{found.dtype} on {found.device}; ± one standard error{paired}"]
