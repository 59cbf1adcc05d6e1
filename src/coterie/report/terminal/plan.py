"""A plan as tables on a terminal."""

from rich.console import Console

from coterie.report import words as w
from coterie.report.schema.part import known
from coterie.report.schema.plan import PlanPart, StagePart
from coterie.report.schema.record import Record
from coterie.report.terminal.pairs import print_pairs


def print_plan(record: Record, out: Console) -> None:
    """Print the work of a run that was only planned, and how long each part of it takes."""
    plan = known(record.plan)
    if plan.cuts is not None:
        out.print(f"\n[bold]{plan.cuts}[/bold]")
    # Rows that only some plans have.
    answers, streamed = [], []
    if plan.answers is not None:
        answers.append(("answers to tasks", f"{plan.answers:,} by every coalition"))
    if plan.pass_bytes is not None:
        told = f"{w.size(plan.pass_bytes)} of layers for every question"
        streamed.append(("read from disk", told))
    print_pairs(
        [
            ("distinct coalitions", f"{plan.distinct:,} ({plan.known:,} known already)"),
            *answers,
            ("layer executions", f"{plan.layer_executions:,} × {plan.sequences} sequences"),
            ("layer-tokens asked", w.count(plan.layer_tokens_asked)),
            ("layer-tokens executed", w.count(plan.layer_tokens_executed)),
            ("memory", f"{w.size(plan.memory_bytes)} (weights and states)"),
            *streamed,
            ("disk", f"{w.size(plan.disk_bytes)} for the checkpoint"),
            *_times(plan),
        ],
        out,
        "Plan, at most (nothing was written)" if plan.at_most else "Plan (nothing was written)",
    )
    if plan.stages:
        rows = [(stage.what, _stage(stage)) for stage in plan.stages]
        # Beside the cut: repair, healing, quantizing, in the order they run.
        print_pairs(rows, out, "Beside the cut, in order")


def _stage(stage: StagePart) -> str:
    lasts = "time not estimated"
    if stage.seconds is not None:
        lasts = f"about {w.seconds(stage.seconds)}"
    disk = f", at most {w.size(stage.disk_bytes)} on disk" if stage.disk_bytes else ""
    return f"{stage.detail}; {w.count(stage.layer_tokens)} layer-tokens, {lasts}{disk}"


def _times(plan: PlanPart) -> list[tuple[str, str]]:
    """How long the whole run takes, and each of its parts."""
    if plan.times is None or plan.expected_seconds is None or plan.most_seconds is None:
        return [("estimated time", w.seconds(plan.seconds))]
    rows = [("estimated time", _range(plan.expected_seconds, plan.most_seconds))]
    return rows + [(f"  {one.what}", _range(one.expected, one.most)) for one in plan.times]


def _range(expected: float, most: float) -> str:
    told = f"about {w.seconds(expected)}"
    return told if most <= 1.05 * expected else f"{told}, at most {w.seconds(most)}"
