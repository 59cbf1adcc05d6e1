"""The gate of all Python functions: what they are given is checked, what they raise is ours."""

import inspect
from collections.abc import Callable
from functools import wraps
from os import PathLike
from typing import ParamSpec, TypeVar

from coterie.errors import CoterieError, UserError
from coterie.foreign import told
from coterie.verbs.options.carry import carried
from coterie.verbs.shared.progress import Progress

P = ParamSpec("P")
R = TypeVar("R")


def public(verb: Callable[P, R]) -> Callable[P, R]:
    """A verb that takes paths as text or objects, and raises nothing but errors of ours.

    Args:
        verb: Its first argument is a request; the others are among ``output``, ``store``,
            ``overwrite``, ``dry_run`` and ``progress``.
    """
    signature = inspect.signature(verb)
    kind = inspect.get_annotations(verb, eval_str=True)[next(iter(signature.parameters))]

    @wraps(verb)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        bound = signature.bind(*args, **kwargs)  # Python's own TypeError for a wrong call
        listener = None
        for place, (name, value) in enumerate(list(bound.arguments.items())):
            if place:
                bound.arguments[name] = _taken(verb.__name__, name, value)
                if name == "progress" and value is not None:
                    listener = bound.arguments[name] = _Listener(value)
            else:
                _check_request(verb.__name__, value, kind)
        try:
            return verb(*bound.args, **bound.kwargs)
        except CoterieError:
            raise
        except BaseException as error:
            # What the caller's own progress raises, to stop a run, is the caller's.
            if listener is not None and error is listener.raised:
                raise
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            raise told(error) from error

    return called


class _Listener:
    """The progress of a caller, which may raise; what it raised is remembered."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.raised: BaseException | None = None

    def say(self, line: str) -> None:
        """Hand a line on."""
        self._hand_on(lambda: self._progress.say(line))

    def step(self, stage: str, done: int, total: int) -> None:
        """Hand on how far a stage has come."""
        self._hand_on(lambda: self._progress.step(stage, done, total))

    def _hand_on(self, tell: Callable[[], None]) -> None:
        try:
            tell()
        except BaseException as error:
            self.raised = error
            raise


def _check_request(verb: str, value: object, kind: type) -> None:
    if not isinstance(value, kind):
        raise UserError(
            f"{verb} takes a {kind.__name__}, not a {type(value).__name__}: write"
            f" {verb}({kind.__name__}(…), …)"
        )


def _taken(verb: str, name: str, value: object) -> object:
    """An argument beside the request, as the plain type that the verb means."""
    if name in ("overwrite", "dry_run"):
        return carried(name, value, bool)
    if name in ("output", "store"):
        if value is not None and not isinstance(value, str | PathLike):
            raise UserError(f"{name} of {verb} is a path, not a {type(value).__name__}")
        return value
    if name == "progress" and value is not None and not _is_progress(value):
        raise UserError(
            f"progress of {verb} has no say(line) and step(stage, done, total): leave it out, or"
            " give an object that has"
        )
    return value


def _is_progress(value: object) -> bool:
    return all(callable(getattr(value, name, None)) for name in ("say", "step"))
