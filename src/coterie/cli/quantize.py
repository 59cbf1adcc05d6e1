"""`coterie quantize DIR --scheme int8 --output OUT`."""

import json
from typing import Annotated

import typer

from coterie.cli import options as o

Scheme = Annotated[
    str,
    typer.Option(
        "--scheme",
        metavar="NAME",
        help="`int8` (weights alone), `int8-dynamic` (activations too), `fp8`, `int4` (CUDA) by "
        "torchao; `llm-int8`, `nf4` by bitsandbytes. They need the extra `quant`. `gptq`, `awq` (4 "
        "bits) by llm-compressor, see --environment.",
    ),
]
Environment = Annotated[
    str | None,
    typer.Option(
        "--environment",
        metavar="PYTHON",
        help="For `gptq` and `awq`: the Python of an environment that has llm-compressor, which "
        "needs another transformers. Default: what COTERIE_LLMCOMPRESSOR names.",
    ),
]
Text = Annotated[
    str | None,
    typer.Option(
        "--text",
        metavar="TEXT",
        help="For `gptq` and `awq`: text that calibrates, as in `heal --text`. Documents that also "
        "judge are left out.",
    ),
]
Quantize = Annotated[
    str | None,
    typer.Option(
        "--quantize", metavar="NAME", help="Then quantise, by a scheme of `coterie quantize`."
    ),
]
QuantizeFirst = Annotated[
    bool,
    typer.Option("--quantize-first", help="Quantise before the cut: the game is played on that."),
]
HeldOut = Annotated[
    str | None,
    typer.Option(
        "--held-out",
        metavar="TEXT",
        help="Text that judges. Default: what judged the cut, told by its coterie.json.",
    ),
]
Calibration = Annotated[
    str | None,
    typer.Option(
        "--calibration",
        metavar="TEXT",
        help="The --calibration of the cut, where that is a local file: half of it judges.",
    ),
]


def command(
    model: o.Model,
    output: o.Output,
    scheme: Scheme = "int8",
    environment: Environment = None,
    text: Text = None,
    overwrite: o.Overwrite = False,
    calibration: Calibration = None,
    held_out: HeldOut = None,
    device: o.Device = "auto",
    trust_remote_code: o.TrustRemoteCode = False,
    as_json: o.AsJson = False,
) -> None:
    """Write a checkpoint in fewer bits, read it back, and judge what that cost.

    The result loads by plain `from_pretrained` where the scheme's library is installed, and must
    give the very logits of the model that was quantised, or nothing is kept. Both orders work: a
    quantised checkpoint can be cut too, with `coterie prune OUT`.

    Examples: coterie quantize small --scheme int8 --output small-int8;
    coterie quantize reference --scheme nf4 --output nf4;
    coterie quantize small --scheme gptq --environment ENV/bin/python --output small-gptq
    """
    from coterie.cli.heal import quieted
    from coterie.report.terminal.after_cut import print_after
    from coterie.verbs.after_cut.quantize import Quantising, quantize
    from coterie.verbs.after_cut.texts import Judges

    request = Quantising(
        model,
        scheme,
        Judges(calibration, held_out),
        device,
        trust_remote_code,
        text=text,
        environment=environment,
    )
    with quieted() as progress:
        done = quantize(request, output=output, overwrite=overwrite, progress=progress)
    if as_json:
        print(json.dumps(done.record.as_json(), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        print_after(done.part)
