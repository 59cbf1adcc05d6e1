"""`--config FILE`: options from a file; a `coterie.json` says what a run was asked for."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import get_type_hints

from coterie.errors import UserError
from coterie.plain import parsed
from coterie.verbs.options.declare import Declared, check_choice, declared, spelt

OPTION = "--config"
"""As it is typed."""

_COMPOSED = {
    "quantize": "scheme",
    "quantize_first": "quantise_first",
    "heal": "heal_steps",
    "repair": "repair",
}
"""Options of what follows a cut, by the names under which a record holds them."""


def with_config(arguments: Sequence[str], verbs: Mapping[str, ModuleType]) -> list[str]:
    """Arguments in which `--config FILE` is replaced by what the file says.

    What is typed beside it has the last word.

    Args:
        arguments: As they were typed.
        verbs: The commands by name.

    Raises:
        UserError: the file cannot be read, or names an option that the command does not take.
    """
    words = list(arguments)
    place = next((i for i, word in enumerate(words) if word.partition("=")[0] == OPTION), None)
    if place is None or words[0] not in verbs:
        return words
    verb, inline = words[0], "=" in words[place]
    if not inline and place + 1 == len(words):
        raise UserError(f"{OPTION} does not say which file: write {OPTION} run.yaml")
    file = Path(words[place].partition("=")[2] if inline else words[place + 1])
    typed = words[1:place] + words[place + (1 if inline else 2) :]
    options = _options(verbs[verb])
    asked = _read(file, options)
    from_file: list[str] = []
    for name, value in asked.items():
        key = str(name).replace("-", "_")
        if key == "verb":
            continue
        check_choice(f"{file.name}:", key, options)
        one = options[key]
        if value is None or (one.option.is_argument and typed and not typed[0].startswith("-")):
            continue
        from_file += _words(one, value)
    # Arguments first; of an option that is given twice the last counts.
    return [verb, *from_file, *typed]


def _read(file: Path, options: Mapping[str, Declared]) -> dict[str, object]:
    """Option → value, from YAML, JSON, or the record of a run."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{OPTION} {file} cannot be read: name a YAML or JSON file") from error
    try:
        import yaml

        content = parsed(text) if file.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        told = " ".join(str(error).split())
        raise UserError(f"{OPTION} {file} cannot be read: {told:.200}") from error
    if not isinstance(content, Mapping):
        raise UserError(f"{OPTION} {file} holds no options: write `remove: 4`, one a line")
    if "request" not in content:
        return dict(content)
    # A record holds the options of other verbs too, at rest.
    return {name: value for name, value in _of_record(file).items() if name in options}


def _of_record(file: Path) -> dict[str, object]:
    """What the run was asked for, with paths of this machine where the store knows them."""
    from coterie.verbs.outputs.paths import recalled
    from coterie.verbs.outputs.records import read_record_file

    record = read_record_file(file)
    if record is None or record.request is None:
        raise UserError(f"{OPTION} {file} is no record of a run: name the coterie.json of one")
    asked: dict[str, object] = {**record.request, **recalled(record, None)}
    if isinstance(record.composed, Mapping):
        asked |= {name: record.composed.get(held) for name, held in _COMPOSED.items()}
    return {name: value for name, value in asked.items() if value not in (None, False, [], ())}


def _options(verb: ModuleType) -> dict[str, Declared]:
    """Every option of a command by the name of its field."""
    kinds = [kind for name, kind in get_type_hints(verb.command).items() if name != "return"]
    return {one.name: one for kind in kinds for one in declared(kind)}


def _words(one: Declared, value: object) -> list[str]:
    """An option and its value as they are typed."""
    if isinstance(value, list):
        value = tuple(value)
    if value is False:
        return []
    if one.type is bool and value is not True:
        raise UserError(
            f"{OPTION} says {one.name}: {value}, and it must be true or false: correct the file"
        )
    if one.option.is_argument:
        return [str(part) for part in (value if isinstance(value, tuple) else (value,))]
    if one.option.form is not None and isinstance(value, str):
        return [one.option.name, value]
    return spelt(one, value, bare_paths=False)
