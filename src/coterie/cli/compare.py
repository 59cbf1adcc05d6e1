"""`coterie compare MODEL --remove 3,6,9`."""

from pathlib import Path
from typing import Annotated

import typer

from coterie.cli import options as o
from coterie.errors import UserError
from coterie.game.search.methods import SEARCH_METHODS

Removals = Annotated[
    str, typer.Option("--remove", metavar="LIST", help="Numbers of layers to remove: 3,6,9.")
]
Methods = Annotated[
    str | None,
    typer.Option(
        "--methods",
        metavar="LIST",
        help=f"Which methods: {', '.join(SEARCH_METHODS)}, or published rivals: "
        "random, exhaustive, shortgpt, shortened-ppl, shortened-taylor, "
        "shortened-magnitude, sleb, angular, evopress, clp, entropy, laco, laco-released, replace, "
        "blockpruner, gtap, slicegpt. Default: paper, guided and all rivals.",
    ),
]
Seeds = Annotated[
    int,
    typer.Option("--seeds", metavar="N", help="Runs of each method that depends on chance."),
]
Lengths = Annotated[
    str | None,
    typer.Option(
        "--lengths",
        metavar="LIST",
        help="Tokens of the held-out sequences, one column each: 128, 2048 or 128,2048; refused "
        "above the model's context. Default: the calibration's length.",
    ),
]
Tasks = Annotated[
    str | None,
    typer.Option(
        "--tasks",
        metavar="LIST",
        help="Also zero-shot accuracy, through lm-evaluation-harness: piqa,arc_easy.",
    ),
]
TasksDir = Annotated[
    Path | None, typer.Option("--tasks-dir", metavar="DIR", help="Folder of local tasks.")
]
Rounds = Annotated[
    int,
    typer.Option("--rounds", metavar="N", help="Timed rounds behind tokens/s; 0 times nothing."),
]
Folder = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="DIR",
        help="Folder for comparison.json, .md, .csv and .svg; without it the table is printed.",
    ),
]
Replace = Annotated[
    bool, typer.Option("--overwrite", help="Replace another comparison that is in DIR.")
]


def command(
    model: o.Model,
    remove: Removals,
    methods: Methods = None,
    seeds: Seeds = 3,
    output: Folder = None,
    overwrite: Replace = False,
    lengths: Lengths = None,
    tasks: Tasks = None,
    tasks_dir: TasksDir = None,
    limit: o.Limit = None,
    rounds: Rounds = 3,
    revision: o.Revision = None,
    calibration: o.Calibration = None,
    held_out: o.HeldOut = None,
    sequences: o.Sequences = None,
    length: o.Length = None,
    bos: o.Bos = "auto",
    budget: o.Budget = None,
    time: o.Time = None,
    lock: o.Lock = None,
    seed: o.Seed = 0,
    store: o.StoreFile = None,
    device: o.Device = "auto",
    dtype: o.Dtype = "auto",
    trust_remote_code: o.TrustRemoteCode = False,
    as_json: o.AsJson = False,
) -> None:
    """Play published methods against each other: same model, same texts, cost beside quality.

    Every method chooses which layers go and is judged on the same held-out text, with standard
    errors of paired differences against the full model and against the best. The paper's method
    calibrates on its published 10 sequences, the others on --sequences. Observations are shared
    through the store, cost is stated as if each method were alone. Stopped at any moment, the same
    command goes on where it was; a method that does not apply leaves a gap that says why.

    Examples: coterie compare reference --remove 2,4,6 --output table;
    coterie compare reference --remove 4 --methods guided,sleb,shortgpt --seeds 1
    """
    from coterie.cli.show import Display, show_with
    from coterie.report.schema.compare import Comparison
    from coterie.report.terminal.compare import print_comparison
    from coterie.verbs.compare.request import CompareRequest
    from coterie.verbs.shared.request import Request

    base = Request(
        model=model,
        revision=revision,
        calibration=calibration,
        held_out=held_out,
        sequences=sequences,
        length=length,
        bos=bos,
        budget=budget,
        time=o.parse_time(time),
        lock=o.parse_layers(lock),
        seed=seed,
        device=device,
        dtype=dtype,
        trust_remote_code=trust_remote_code,
    )
    request = CompareRequest(
        base=base,
        removals=_numbers("--remove", remove),
        methods=o.parse_names(methods),
        seeds=seeds,
        lengths=_numbers("--lengths", lengths),
        tasks=o.parse_names(tasks),
        tasks_dir=tasks_dir,
        limit=limit,
        rounds=rounds,
    )
    request.check()

    def run(progress: Display) -> Comparison:
        from coterie.verbs.compare.run import compare

        return compare(request, output=output, overwrite=overwrite, store=store, progress=progress)

    show_with(print_comparison, run, as_json=as_json)


def _numbers(option: str, text: str | None) -> tuple[int, ...]:
    try:
        return tuple(sorted(int(part) for part in o.parse_names(text)))
    except ValueError:
        raise UserError(f"{option} {text} is no list of numbers: write 3,6,9") from None
