"""What the annotation of a field says of its option, and what is made from it."""

import math
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, dataclass, fields, replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Annotated, ClassVar, get_args, get_origin, get_type_hints

from coterie.errors import UserError
from coterie.plain import Json
from coterie.verbs.options.carry import carried
from coterie.verbs.options.forms import Form
from coterie.verbs.shared.provenance import bare


@dataclass(frozen=True)
class Option:
    """One option of the command line, declared in the annotation of the field that holds it.

    Attributes:
        name: As it is typed: ``--remove``; a name without dashes is a positional argument.
        metavar: What stands for its value in help; empty for a flag.
        help: What it does, and its default; a function where a table of methods says it.
        form: How a value is written where that is not the plain number or word.
        short: A second name, of one letter.
        choices: The words it may be; a function where they are read from a table.
        above: Its value is larger than this, and finite.
        least: Its value is at least this, and finite.
        path: It may be a path, of which records keep the last part alone.
        recorded: Part of what a record says was asked.
        written: It is a file that the run writes, not one that it reads.
    """

    name: str
    metavar: str
    help: str | Callable[[], str]
    form: Form | None = None
    short: str | None = None
    choices: Callable[[], Iterable[str]] | None = None
    above: float | None = None
    least: float | None = None
    path: bool = False
    recorded: bool = True
    written: bool = False

    @property
    def told(self) -> str:
        """The help as it is read now."""
        return self.help if isinstance(self.help, str) else self.help()

    @property
    def is_argument(self) -> bool:
        """Whether it is positional: given by its place, without a name."""
        return not self.name.startswith("-")


@dataclass(frozen=True)
class Declared:
    """A field of a request with its option, and its type without the annotation."""

    field: Field[object]
    option: Option
    type: object

    @property
    def name(self) -> str:
        """Of the field."""
        return self.field.name

    @property
    def default(self) -> object:
        """Its value where it is not given; ``MISSING`` where it has to be given."""
        return self.field.default

    @property
    def is_list(self) -> bool:
        """Whether it is repeated on the command line, once for each of its values."""
        return self.option.form is None and get_origin(self.type) is tuple


def declared(kind: type) -> list[Declared]:
    """Every option of a dataclass, in order, with the help that this class gives it."""
    return list(_declared(kind))


@cache
def _declared(kind: type) -> tuple[Declared, ...]:
    # A derived class has the last word on a help text, so bases are read from the far end.
    told: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        told |= vars(base).get("HELP", {})
    hints = get_type_hints(kind, include_extras=True)
    found = []
    for field in fields(kind):
        # TypeError, not UserError: a field without an option is a mistake of ours.
        if get_origin(hints[field.name]) is not Annotated:
            raise TypeError(f"{kind.__name__}.{field.name} declares no option")
        bare_type, option = get_args(hints[field.name])[:2]
        option = replace(option, help=told.get(field.name, option.help))
        found.append(Declared(field, option, bare_type))
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Some options and their values: the base of every group and every request."""

    HELP: ClassVar[Mapping[str, str]] = {}
    """Help of options that mean something particular to this class, by the name of the field."""

    VERB: ClassVar[str] = ""
    """The command that takes a request."""

    TOLD: ClassVar[frozenset[str]] = frozenset()
    """Fields that the rebuilt command line tells at their default too."""

    def __post_init__(self) -> None:
        """Take numpy numbers and paths for the plain types that are declared.

        Raises:
            UserError: a value of a type that no record and no command line could carry.
        """
        for one in declared(type(self)):
            value = getattr(self, one.name)
            plain = carried(one.option.name, value, one.type, path=one.option.path)
            # Frozen for everyone else; here it is still being made.
            object.__setattr__(self, one.name, plain)

    def check(self) -> None:
        """Refuse what can be refused before anything is loaded.

        Raises:
            UserError: one clear line about the first thing that is wrong.
        """
        try:
            for one in declared(type(self)):
                check_value(one.option, getattr(self, one.name))
        # Each request chooses its own kind of error; the values are checked in one place.
        except UserError as error:
            raise self.refusal()(str(error)) from None

    def refusal(self) -> type[UserError]:
        """The kind of error that a value is refused with."""
        return UserError

    def command(self, output: Path | None = None) -> str:
        """The command line that asks for this, every path in it reduced to its last part."""
        # Arguments may be declared after options; in the command line they come first.
        words, arguments = ["coterie", self.VERB], []
        for one in declared(type(self)):
            value = getattr(self, one.name)
            if one.option.is_argument:
                arguments += [_word(part) for part in (value if one.is_list else (value,))]
            elif not _is_left_out(value, one.default, one.name in self.TOLD):
                words += spelt(one, value)
        # Right after `coterie VERB`.
        words[2:2] = arguments
        if output is not None:
            words += ["--output", output.name]
        return shlex.join(words)

    def as_json(self) -> dict[str, Json]:
        """What was asked as plain JSON; paths are reduced to their last part."""
        return {
            one.name: _plain(getattr(self, one.name), path=one.option.path)
            for one in declared(type(self))
            if one.option.recorded
        }


def as_left_out(group: type[Options]) -> dict[str, Json]:
    """What a record says of a group of options where none of them was given."""
    return {one.name: _plain(one.default, path=one.option.path) for one in declared(group)}


def check_value(option: Option, value: object) -> None:
    """Refuse a value that its own option forbids.

    Raises:
        UserError: a word that is not among the choices, or a number out of bounds.
    """
    # The word first: its message names the nearest choice.
    for word in value if isinstance(value, tuple) else (value,):
        if option.choices is not None and isinstance(word, str):
            check_choice(option.name, word, option.choices())
    numbers = value if isinstance(value, tuple) else (value,)
    for number in numbers:
        # bool is an int in Python, and a flag has no bounds.
        if isinstance(number, bool) or not isinstance(number, int | float):
            continue
        # inf and nan fail both comparisons, as they should.
        if option.above is not None and not option.above < number < math.inf:
            limit = "zero" if option.above == 0 else f"{option.above:g}"
            raise UserError(f"{option.name} {number} must be above {limit}, and finite")
        if option.least is not None and not option.least <= number < math.inf:
            limit = f"be at least {option.least:g}" if option.least else "not be negative"
            raise UserError(f"{option.name} {number} must {limit}")


def check_choice(name: str, word: str, choices: Iterable[str]) -> None:
    """Refuse a word that is not among the choices, and name the nearest of them.

    Args:
        name: Of the option, with its dashes.
        word: What was given.
        choices: What there is.

    Raises:
        UserError: the word is not among the choices.
    """
    known = list(choices)
    if word in known:
        return
    # difflib's own cutoff (0.6) keeps far-fetched guesses out.
    near = get_close_matches(word.lower(), known, n=1)
    meant = f" (did you mean {near[0]}?)" if near else ""
    raise UserError(f"{name} {word} is unknown{meant}: there are {', '.join(known)}")


def _is_left_out(value: object, default: object, told: bool) -> bool:
    # The command tells such a field at its default too; only "off" and "nothing" go unsaid.
    if told:
        return value is None or value is False or value == () or value == 0
    return value is None or value == default


def spelt(one: Declared, value: object, *, bare_paths: bool = True) -> list[str]:
    """An option and its value as they are typed.

    Args:
        one: The option.
        value: Its value.
        bare_paths: Reduce paths to their last part, as in what is shown to others.
    """
    written = _word if bare_paths else str
    # A flag: its name alone turns it on.
    if value is True:
        return [one.option.name]
    if one.is_list and isinstance(value, tuple):
        return [word for part in value for word in (one.option.name, written(part))]
    if one.option.form is not None:
        return [one.option.name, written(one.option.form.write(value))]
    return [one.option.name, written(value)]


def _word(value: object) -> str:
    # Only the last part: a rebuilt command must not name folders of this machine.
    if isinstance(value, Path):
        return value.name or "."
    return str(bare(value)) if isinstance(value, str) else str(value)


def _plain(value: object, *, path: bool) -> Json:
    if isinstance(value, tuple):
        return [_plain(part, path=path) for part in value]
    if isinstance(value, Path) or (path and isinstance(value, str)):
        return bare(str(value))
    # What falls through would not survive json.dumps.
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"{value!r} is no plain value")
