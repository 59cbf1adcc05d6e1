"""`coterie heal DIR --output OUT`."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coterie.cli import options as o
from coterie.cli.progress import LiveProgress, PlainProgress, make_progress
from coterie.cli.quantize import Calibration, HeldOut

if TYPE_CHECKING:
    from coterie.verbs.prune.stages import After
    from coterie.verbs.shared.request import Request

Teacher = Annotated[
    str | None,
    typer.Option(
        "--teacher",
        metavar="MODEL",
        help="The model DIR was cut from. Default: what its coterie.json names.",
    ),
]
TeacherCache = Annotated[
    Path | None,
    typer.Option(
        "--teacher-cache",
        metavar="DIR",
        help="Folder for what the teacher predicts on the training text: it is asked once, and the "
        "cut model learns with nothing else in memory. Made if it is not there, good for every "
        "later healing on the same text.",
    ),
]
TeacherTop = Annotated[
    int | None,
    typer.Option(
        "--teacher-top",
        metavar="K",
        help="Most likely tokens kept of each prediction, the others taken together. Default: 256, "
        "in 2 KB per token.",
    ),
]
Text = Annotated[
    str | None,
    typer.Option(
        "--text",
        metavar="TEXT",
        help="Text to learn from, as in `prune --calibration`. Default: C4; for `reference` the "
        "library modules it was trained on. Documents that also judge are left out.",
    ),
]
Mode = Annotated[
    str,
    typer.Option("--mode", help="`lora`: adapters, merged at the end; `full`: all kept weights."),
]
Rank = Annotated[int, typer.Option("--rank", metavar="N", help="Of the adapters.")]
Steps = Annotated[int, typer.Option("--steps", metavar="N", help="Optimiser steps.")]
Minutes = Annotated[
    float | None,
    typer.Option("--minutes", metavar="T", help="Fewer steps, if they would take longer."),
]
Batch = Annotated[int, typer.Option("--batch", metavar="N", help="Sequences per step.")]
LearningRate = Annotated[
    float | None,
    typer.Option(
        "--learning-rate",
        metavar="R",
        help="At its peak. Default: 0.002 for lora and 0.0005 for full at width 160, as measured "
        "on `reference`, and in inverse proportion to the width above.",
    ),
]
Seams = Annotated[
    float,
    typer.Option(
        "--seams",
        metavar="W",
        help="Weight of the hidden states after each gap, beside the KL of the predictions.",
    ),
]

Heal = Annotated[
    int | None,
    typer.Option(
        "--heal", metavar="STEPS", help="Then heal, as `coterie heal` does, before quantising."
    ),
]


@contextmanager
def quieted() -> Iterator[LiveProgress | PlainProgress]:
    """Our progress display, with transformers' own bars out of its way."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    with make_progress() as progress:
        yield progress


def command(
    model: o.Model,
    output: o.Output,
    teacher: Teacher = None,
    teacher_cache: TeacherCache = None,
    teacher_top: TeacherTop = None,
    text: Text = None,
    mode: Mode = "lora",
    rank: Rank = 32,
    steps: Steps = 200,
    minutes: Minutes = None,
    batch: Batch = 8,
    learning_rate: LearningRate = None,
    seams: Seams = 0.0,
    overwrite: o.Overwrite = False,
    calibration: Calibration = None,
    held_out: HeldOut = None,
    seed: o.Seed = 0,
    device: o.Device = "auto",
    trust_remote_code: o.TrustRemoteCode = False,
    as_json: o.AsJson = False,
) -> None:
    """Heal a cut checkpoint: let it learn from the model it was cut from.

    The full model is loaded once. All its layers teach, the kept ones learn to predict the same,
    and what they learned is merged into an ordinary checkpoint in the dtype of DIR, judged on
    held-out text before and after. Stopped at any moment, the same command goes on where it was.
    With --teacher-cache the full model is asked once and let go before the cut one is loaded.

    Examples: coterie heal small --output healed;
    coterie heal small --teacher Qwen/Qwen3-0.6B --text corpus.jsonl --minutes 30 --output healed
    """
    from coterie.report.terminal.after_cut import print_after
    from coterie.verbs.after_cut.heal import Healing, heal
    from coterie.verbs.after_cut.texts import Judges

    request = Healing(
        model=model,
        teacher=teacher,
        teacher_cache=None if teacher_cache is None else str(teacher_cache),
        teacher_top=teacher_top,
        text=text,
        judges=Judges(calibration, held_out),
        mode=mode,
        rank=rank,
        steps=steps,
        minutes=minutes,
        batch=batch,
        learning_rate=learning_rate,
        seams=seams,
        seed=seed,
        device=device,
        trust_remote_code=trust_remote_code,
    )
    with quieted() as progress:
        done = heal(request, output=output, overwrite=overwrite, progress=progress)
    if as_json:
        print(json.dumps(done.record.as_json(), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        print_after(done.part)


def compose(
    request: "Request",
    after: "After",
    *,
    output: Path,
    overwrite: bool,
    store: Path | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Run a cut with what follows it, or plan it, and print the one report."""
    from coterie.report.terminal.after_cut import print_after
    from coterie.report.terminal.utilities import print_mixed
    from coterie.verbs.prune.stages import prune_and_after
    from coterie.verbs.prune.stages_plan import plan_and_after

    with quieted() as progress:
        run = plan_and_after if dry_run else prune_and_after
        record = run(
            request, after, output=output, overwrite=overwrite, store=store, progress=progress
        )
    if as_json:
        print(json.dumps(record.as_json(), indent=2, ensure_ascii=False, allow_nan=False))
        return
    print_mixed(record)
    for part in record.after or []:
        print_after(part)
