"""The options of a mix of utilities, each taught once."""

from typing import Annotated

import typer

from coterie.cli.evaluate import TasksDir

__all__ = ["TaskItems", "TasksDir", "Utility"]

Utility = Annotated[
    str | None,
    typer.Option(
        "--utility",
        metavar="MIX",
        help="What a coalition is worth: tasks by margin or, as NAME:acc, by accuracy, and `kl`, "
        "`log-loss` or `top1` on the calibration text, with weights: "
        "piqa=0.5,arc_easy=0.25,kl=0.25. Default: what it predicts on the calibration text alone.",
    ),
]
TaskItems = Annotated[
    int, typer.Option("--task-items", metavar="N", help="First items of each task, for --utility.")
]
