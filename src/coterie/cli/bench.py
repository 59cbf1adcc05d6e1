"""`coterie bench MODEL…`."""

from pathlib import Path
from typing import Annotated

import typer

from coterie.cli import options as o
from coterie.cli.evaluate import Models
from coterie.errors import UserError

Batches = Annotated[
    str, typer.Option("--batch", metavar="LIST", help="Texts side by side, such as 1,8.")
]
Contexts = Annotated[
    str, typer.Option("--context", metavar="LIST", help="Tokens before the first new one: 128,512.")
]
NewTokens = Annotated[
    int, typer.Option("--new-tokens", metavar="N", help="Tokens generated after the context.")
]
Rounds = Annotated[int, typer.Option("--rounds", metavar="N", help="Timed rounds; medians count.")]
Warmup = Annotated[int, typer.Option("--warmup", metavar="N", help="Rounds before them.")]
Text = Annotated[
    str | None,
    typer.Option("--text", metavar="TEXT", help="Text for --figure, as in evaluate."),
]
FigureFile = Annotated[
    Path | None,
    typer.Option(
        "--figure", metavar="FILE", help="Draw held-out perplexity against speed: .svg, .png."
    ),
]


def command(
    models: Models,
    batch: Batches = "1",
    context: Contexts = "128",
    new_tokens: NewTokens = 32,
    rounds: Rounds = 7,
    warmup: Warmup = 2,
    text: Text = None,
    figure: FigureFile = None,
    seed: o.Seed = 0,
    store: o.StoreFile = None,
    device: o.Device = "auto",
    dtype: o.Dtype = "auto",
    trust_remote_code: o.TrustRemoteCode = False,
    as_json: o.AsJson = False,
) -> None:
    """Time models on this machine: dense against cut.

    Measures prefill, time to the first token, time per further token, throughput, and peak memory
    above the weights, for every batch with every context. Models are timed in turn, round after
    round, and compared within a round. The number of threads is torch's own: set OMP_NUM_THREADS.

    Examples: coterie bench reference out --batch 1,8 --context 64,256;
    coterie bench Qwen/Qwen3-0.6B small --figure speed.svg
    """
    from coterie.cli.show import Display, show_with
    from coterie.report.schema.bench import SpeedReport
    from coterie.report.terminal.bench import print_speed
    from coterie.verbs.evaluate.bench import BenchRequest

    request = BenchRequest(
        models=tuple(models),
        batches=parse_numbers("batch", batch),
        contexts=parse_numbers("context", context),
        new_tokens=new_tokens,
        rounds=rounds,
        warmup=warmup,
        text=text,
        figure=figure,
        device=device,
        dtype=dtype,
        trust_remote_code=trust_remote_code,
        seed=seed,
    )
    request.check()

    def run(progress: Display) -> SpeedReport:
        from coterie.verbs.evaluate.bench import bench

        return bench(request, store=store, progress=progress)

    show_with(print_speed, run, as_json=as_json)


def parse_numbers(option: str, text: str) -> tuple[int, ...]:
    """Numbers from `1,8`.

    Raises:
        UserError: a part is no whole number.
    """
    try:
        return tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise UserError(f"--{option} {text} is no list of numbers: write 1,8") from None
