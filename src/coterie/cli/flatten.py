"""From dataclasses of options to a command that typer reads: the only place that knows both."""

import gc
import inspect
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import MISSING
from functools import wraps
from typing import Annotated, Any, get_args, get_type_hints

import typer

from coterie.cli.display.logs import tell
from coterie.verbs.options.declare import Declared, Options, declared
from coterie.verbs.options.run import Report

logger = logging.getLogger(__name__)


def flatten(act: Callable[..., None]) -> Callable[..., None]:
    """A function of plain options, made of one whose arguments are groups of them.

    Every group is filled from the command line, checked, and handed over; the docstring of the
    function is the command's help.

    Args:
        act: A function whose every argument is annotated with a dataclass of options.
    """
    # Read once, as the command is built; a call only fills values in.
    groups: dict[str, type[Options]] = {
        name: kind for name, kind in get_type_hints(act).items() if name != "return"
    }
    options = {name: declared(kind) for name, kind in groups.items()}

    @wraps(act)
    def command(**given: Any) -> None:
        filled = {
            name: kind(**{one.name: _read(one, given[one.name]) for one in options[name]})
            for name, kind in groups.items()
        }
        # First, so that the checks can already be heard.
        tell(verbose=any(one.verbose for one in filled.values() if isinstance(one, Report)))
        # Checked before anything heavy is imported: a mistake costs no waiting.
        for group in filled.values():
            group.check()
            if group.VERB:
                logger.info("asked: %s", group.command())
        _refuse_early(list(filled.values()))
        act(**filled)

    every = [one for group in options.values() for one in group]
    parameters = [_parameter(one) for one in _ordered(every)]
    # typer reads the signature; wraps() alone would show that of the groups.
    vars(command)["__signature__"] = inspect.Signature(parameters)
    command.__annotations__ = {one.name: one.annotation for one in parameters}
    return command


def _refuse_early(groups: list[Options]) -> None:
    """Refuse wrong folders before the verb, and with it torch, is imported."""
    request = next((one for one in groups if one.VERB), None)
    run = next((one for one in groups if not one.VERB), None)
    if request is not None and run is not None:
        from coterie.verbs.outputs.early import refuse_early

        refuse_early(request, run)
        # What follows imports for some seconds: whoever waits is told what for.
        if hasattr(request, "device") and "torch" not in sys.modules:
            print("starting torch and transformers", file=sys.stderr, flush=True)
            _start()


def _start() -> None:
    """Import what every model needs, without garbage to look for: all of it stays to the end."""
    gc.disable()
    try:
        import transformers.modeling_utils  # noqa: F401 - and with it torch
    finally:
        gc.enable()
    gc.freeze()


def _ordered(options: list[Declared]) -> Iterator[Declared]:
    """Arguments, then what must be given, then the rest, each in the order of the groups."""
    yield from (one for one in options if one.option.is_argument)
    rest = [one for one in options if not one.option.is_argument]
    # Python's own rule for parameters, though all of these are keyword-only.
    yield from (one for one in rest if one.default is MISSING)
    yield from (one for one in rest if one.default is not MISSING)


def _parameter(one: Declared) -> inspect.Parameter:
    """The option as typer declares it."""
    option, kind, default = one.option, one.type, one.default
    # typer hands a form over as text; _read() turns it into the value.
    if option.form is not None:
        kind = str if default is MISSING else str | None
        default = option.form.write(default) if default not in (MISSING, None, ()) else default
    elif one.is_list:
        kind = list[get_args(one.type)[0]]  # type: ignore[misc]
        kind = kind if default is MISSING else kind | None
    # typer has no empty tuple: None stands for it, and _read() turns it back.
    default = None if default == () else default
    metavar, help_ = option.metavar or None, option.told
    spelt: Any
    if option.is_argument:
        spelt = typer.Argument(metavar=metavar, help=help_, show_default=False)
    else:
        names = [option.name, *([option.short] if option.short else [])]
        spelt = typer.Option(*names, metavar=metavar, help=help_, autocompletion=_offered(one))
    return inspect.Parameter(
        one.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if default is MISSING else default,
        annotation=Annotated[kind, spelt],
    )


def _offered(one: Declared) -> Callable[[str], list[str]] | None:
    """What a shell offers for the words of an option that has choices."""
    choices = one.option.choices
    if choices is None:
        return None
    # typer knows this argument by its name.
    return lambda incomplete: [word for word in choices() if word.startswith(incomplete)]


def _read(one: Declared, value: object) -> object:
    """The value of a field, from what typer made of the words."""
    if one.option.form is not None and isinstance(value, str):
        return one.option.form.read(one.option.name, value)
    # The other half of the default in _parameter().
    if value is None and isinstance(one.default, tuple):
        return ()
    return tuple(value) if isinstance(value, list) else value
