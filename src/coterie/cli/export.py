"""`coterie export DIR --to mergekit|gguf|vllm-check|ollama`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from coterie.cli.show import show
from coterie.verbs.checkpoint_requests import ExportRequest
from coterie.verbs.options.declare import Option
from coterie.verbs.options.run import Report

if TYPE_CHECKING:
    from coterie.verbs.export.run import Export


@dataclass(frozen=True, kw_only=True)
class ExportRun(Report):
    """Where `export` writes."""

    output: Annotated[
        Path | None,
        Option("--output", "FILE", "Where to write the config, GGUF or Modelfile.", short="-o"),
    ] = None


def command(request: ExportRequest, run: ExportRun) -> None:
    """Check a checkpoint for another runtime, and print the command that takes it there.

    Checks offline what can be: that the runtime knows the architecture and reads its layers for
    what they are, that every tensor is there with its shape, that layers are numbered without a
    gap. With --converter it writes the GGUF file, tells it which layers slide, and checks tensors,
    vocabulary and tokens.

    Examples: coterie export out --to gguf --converter llama.cpp --output out.gguf;
    coterie export out --to mergekit --output cut.yml
    """
    from coterie.verbs.export.run import export

    show(lambda _: export(request, output=run.output), lambda done: _print(done, run.output), run)


def _print(done: "Export", output: Path | None) -> None:
    for check in done.checks:
        print(f"ok  {check}")
    # A text without a file for it is printed.
    if done.text is not None:
        print(f"written to {output.name}" if output is not None else f"\n{done.text}")
    print(f"then run: {done.command}")
