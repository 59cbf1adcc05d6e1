"""`coterie export DIR --to mergekit|gguf|vllm-check`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from coterie.cli import options as o
from coterie.cli.push import Folder

Target = Annotated[
    str,
    typer.Option(
        "--to",
        metavar="RUNTIME",
        help="`mergekit`: a passthrough config of the same cut; `gguf`: llama.cpp; `vllm-check`.",
        show_default=False,
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="Where to write the mergekit config."),
]
Base = Annotated[
    str | None,
    typer.Option("--base", metavar="MODEL", help="Where mergekit finds the full model."),
]


def command(
    folder: Folder,
    to: Target,
    output: ConfigFile = None,
    base: Base = None,
    trust_remote_code: o.TrustRemoteCode = False,
    as_json: o.AsJson = False,
) -> None:
    """Check a checkpoint for another runtime, and print the command that takes it there.

    Checks offline what can be: that the runtime knows the architecture, that every tensor is there
    with its shape, that layers are numbered without a gap. Runs no other program.

    Examples: coterie export out --to gguf;
    coterie export out --to mergekit --output cut.yml
    """
    from transformers.utils import logging

    from coterie.verbs.export import export

    logging.disable_progress_bar()
    done = export(folder, to=to, output=output, base=base, trust_remote_code=trust_remote_code)
    if as_json:
        print(json.dumps(done.as_record(), indent=2, ensure_ascii=False))
        return
    for check in done.checks:
        print(f"ok  {check}")
    if done.text is not None:
        print(f"written to {output.name}" if output is not None else f"\n{done.text}")
    print(f"then run: {done.command}")
