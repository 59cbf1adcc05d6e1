"""What to do next with a checkpoint that was just cut: commands that can be typed as they are."""

import shlex
from pathlib import Path

from rich.console import Console

from coterie.report.schema.record import Record
from coterie.report.wording.standing import standing


def print_next(record: Record, model: str, output: Path, out: Console | None = None) -> None:
    """Print the commands that repair, heal and serve a checkpoint.

    Args:
        record: Of the finished run.
        model: The full model, as it was asked for.
        output: Folder of the checkpoint, as it was asked for.
        out: Where to print.
    """
    lines = next_lines(record, model, output)
    if lines:
        console = out or Console(highlight=False)
        console.print("\n[bold]Next[/bold]")
        for line in lines:
            # Not wrapped: a command is to be copied whole.
            console.print(f"  {line}", soft_wrap=True, markup=False)


def next_lines(record: Record, model: str, output: Path) -> list[str]:
    """The commands, in the order they are run.

    Args:
        record: Of the finished run.
        model: The full model, as it was asked for.
        output: Folder of the checkpoint, as it was asked for.
    """
    done, now = {part.what for part in record.after or []}, standing(record)
    if record.verdict is None or now is None or done - {"repair"}:
        return []
    grade = now.grade or record.verdict.grade
    if grade is None:
        return []
    # A local model's folder is in no record, so it has to be named.
    teacher = ["--teacher", model] if Path(model).is_dir() else []
    last, lines = output, []
    steps = [] if grade == "close" else ["repair", "heal"]
    if record.model.player_kind != "layer":
        done.add("repair")  # blocks cannot be refitted one without the other
    for verb in (step for step in steps if step not in done):
        made = output.with_name(f"{output.name}-{verb}ed")
        lines.append(["coterie", verb, str(last), "--output", str(made), *teacher])
        last = made
    trust = [] if record.runtimes is None else ["--trust-remote-code"]
    if grade != "broken":
        lines.append(["vllm", "serve", str(last), *trust])
    return [shlex.join(line) for line in lines]
