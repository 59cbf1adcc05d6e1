"""The command line: one file per verb; each parses, calls one verb, prints one report.

Exit codes: 0 done; 1 what was written is not what was measured, the machine gave out (disk, memory)
or something failed where that was not foreseen; 2 a mistake in what was asked; 130 stopped by
Ctrl-C, with everything observed so far kept. Each of them is told in one line.
"""

import logging
import os
import sys
from types import ModuleType

import typer

from coterie.cli import (
    bench,
    compare,
    cut,
    evaluate,
    export,
    heal,
    inspect,
    prune,
    push,
    quantize,
    repair,
    report,
    runs,
    sparsify,
    values,
)
from coterie.cli.display.terminal import degrade, flush
from coterie.cli.flatten import flatten
from coterie.errors import UserError
from coterie.foreign import told

logger = logging.getLogger(__name__)

CONFIG = "--config"
"""The option whose file is read before all others are parsed."""

# In the order of `coterie --help`: what most people come for stands first.
_VERBS = (
    prune,
    values,
    inspect,
    cut,
    evaluate,
    compare,
    bench,
    report,
    runs,
    push,
    export,
    quantize,
    repair,
    heal,
    sparsify,
)


def make_app() -> typer.Typer:
    """The commands of all verbs; their help is that of the methods there are by now."""
    app = typer.Typer(
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        help="Find the coalition of layers that carries a language model, and cut the rest away. "
        "Start with: coterie prune reference --remove 4 --output out",
    )
    app.callback(invoke_without_command=True)(_root)
    # The module's name is the verb's; its `command` takes groups of options.
    for verb in _VERBS:
        app.command(_name(verb))(flatten(verb.command))
    return app


def _name(verb: ModuleType) -> str:
    return verb.__name__.rpartition(".")[2]


def _root(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and stop."),
) -> None:
    if version:
        # Imported late: looking up installed packages costs every other command time.
        from importlib.metadata import version as version_of

        print(f"coterie {version_of('coterie')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code; nothing ends in a traceback."""
    degrade()
    try:
        command = typer.main.get_command(make_app())
        words = sys.argv[1:] if arguments is None else arguments
        if any(word.partition("=")[0] == CONFIG for word in words):
            from coterie.cli.replay import with_config

            words = with_config(words, {_name(verb): verb for verb in _VERBS})
        # Not standalone: typer would print its own errors and exit by its own codes.
        code = command.main(words, prog_name="coterie", standalone_mode=False) or 0
    except KeyboardInterrupt:
        code = 130
    except typer.Abort:
        code = 130
    except SystemExit:
        raise
    except BaseException as error:  # panics of libraries in Rust are no Exception
        return _failed(error)
    if code == 130:
        _fail("stopped; everything observed is kept: the same command goes on from here", 130)
    return code


def _failed(error: BaseException) -> int:
    # The parser's own errors are known by their method; their class is not imported here.
    if hasattr(error, "format_message"):
        context = getattr(error, "ctx", None)
        verb = context.command_path if context else "coterie"
        return _fail(f"{error.format_message()} See `{verb} --help`.", 2)
    logger.debug("raised here", exc_info=error)  # with --verbose
    ours = told(error)
    return _fail(str(ours), 2 if isinstance(ours, UserError) else 1)


def run() -> None:
    """The console script."""
    # Forked tokenizers warn on every run, and they are not what is slow here.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    code = main()
    if (why := flush()) is not None:
        code = _fail(f"what was to be printed could not be written ({why}); all else is done", 1)
    sys.exit(code)


def _fail(message: str, code: int) -> int:
    # One line, whatever the message held: scripts read stderr by lines.
    print(f"coterie: {' '.join(message.split())}", file=sys.stderr)
    return code
