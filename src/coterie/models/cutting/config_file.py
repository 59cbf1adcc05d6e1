"""config.json edited as the file it is: every place that counts or lists layers follows the cut.

A config class drops fields that it turned into others, keeps copies under other names, and nests
what lies flat in the file. So the file is not written from an object: its own fields are changed,
wherever they stand, by the rules of `config`, and what the class made of them is added where the
class would read it. Towers for images and sound, and whatever else has layers of its own, stay.
"""

import copy
import json
import re
from collections.abc import Mapping
from pathlib import Path

from transformers import PretrainedConfig

from coterie.errors import ModelError
from coterie.foreign import reason
from coterie.models.cutting.config import (
    config_changes,
    cut_fields,
    follow_by_name,
    is_layer_count,
    is_sub_config,
)
from coterie.models.families.fields import text_config
from coterie.models.files.json_files import Fields
from coterie.models.files.weights import plain_names
from coterie.scratch import Scratch

_TEXT = re.compile(r"text|llm|language|decoder|thinker|(^|_)lm(_|$)")
"""Names under which a wrapper keeps its decoder, where the class has another name for it."""

_NOT_OF_LAYERS = frozenset(
    ("quantization_config", "auto_map", "id2label", "label2id", "task_specific_params")
)


def edited(
    raw: Fields,
    before: PretrainedConfig,
    after: PretrainedConfig,
    kept: tuple[int, ...],
    n_players: int,
) -> Fields:
    """The content of config.json for the cut model; the one given is not changed.

    Args:
        raw: The content of the source's config.json.
        before: What its class makes of it.
        after: The same for the cut model, from `cut_config`.
        kept: The layers that stay.
        n_players: Number of layers before.
    """
    new = plain_names(copy.deepcopy(raw))
    chain = _chain(before)
    names, node = [], new
    for attribute in chain:
        name = _name_in(node, attribute, text_config(before), n_players)
        if name is None:
            break  # the file is flat: the class takes the decoder's fields from here
        names.append(name)
        node = node[name]  # type: ignore[assignment]
    towers = _towers(before, chain)
    flat_copies = _values_of(node, names)
    _follow(new, names, kept, n_players, towers)
    if len(names) == len(chain):
        node |= cut_fields(node, kept, n_players)
    changes = config_changes(text_config(before), text_config(after))
    _merge(node, changes, type(text_config(before)).attribute_map)
    _follow_copies(new, names, flat_copies, node)
    return new


def read_as_file(fields: Fields, like: PretrainedConfig) -> PretrainedConfig:
    """What the class of a config makes of a new config.json, read back from a real file.

    Raises:
        ModelError: The class refuses it.
    """
    with Scratch() as folder:
        write_fields(fields, folder)
        try:
            config = type(like).from_pretrained(folder, local_files_only=True)
        except Exception as error:  # config classes raise anything
            raise ModelError(
                f"the config.json of the cut {like.model_type} would not be read"
                f" ({reason(error)}): cut other layers"
            ) from error
    config.name_or_path = like.name_or_path  # where a model's own Python is looked for
    return config


def write_fields(fields: Fields, folder: Path) -> None:
    """Write config.json."""
    text = json.dumps(fields, indent=2, ensure_ascii=False) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")


def differences(old: Mapping[str, object], new: Mapping[str, object]) -> Fields:
    """The fields in which two files differ, nested where they hold configs, with the new values."""
    changed: Fields = {}
    for name, value in new.items():
        before = old.get(name)
        if before == value and name in old:
            continue
        if isinstance(before, dict) and isinstance(value, dict) and is_sub_config(before | value):
            changed[name] = differences(before, value)
        else:
            changed[name] = value
    return changed | {name: None for name in old if name not in new}


def _chain(config: PretrainedConfig) -> list[str]:
    """The attributes that lead from a config to the one of the decoder."""
    text = text_config(config)
    if text is config:
        return []
    for name, value in vars(config).items():
        if value is text:
            return [name]
        if isinstance(value, PretrainedConfig) and text_config(value) is text:
            return [name, *_chain(value)]
    return []


def _name_in(node: Fields, attribute: str, text: PretrainedConfig, n_players: int) -> str | None:
    """Under which name a file keeps the part that the class calls by an attribute."""
    if isinstance(node.get(attribute), dict):
        return attribute
    others = [
        name
        for name, value in node.items()
        if isinstance(value, dict) and _TEXT.search(name) and _is_decoder(value, text, n_players)
    ]
    return others[0] if len(others) == 1 else None


def _is_decoder(fields: Fields, text: PretrainedConfig, n_players: int) -> bool:
    counts = [v for k, v in fields.items() if is_layer_count(k) and v == n_players]
    widths = [fields[k] for k in ("hidden_size", "d_model", "n_embd", "dim") if k in fields]
    return bool(counts) and (not widths or widths[0] == getattr(text, "hidden_size", widths[0]))


def _towers(config: PretrainedConfig, chain: list[str]) -> set[str]:
    """Attributes that hold configs of other parts than the decoder."""
    found: set[str] = set()
    for name, value in vars(config).items():
        if isinstance(value, PretrainedConfig):
            if chain and name == chain[0]:
                found |= _towers(value, chain[1:])
            else:
                found.add(name)
    return found


def _follow(
    node: Fields, names: list[str], kept: tuple[int, ...], n_players: int, towers: set[str]
) -> None:
    """Change every field of a part whose name says that it speaks of layers, and of parts in it."""
    for name, value in list(node.items()):
        if name in _NOT_OF_LAYERS or name in towers:
            continue
        if not isinstance(value, dict):
            new = follow_by_name(name, value, kept, n_players)
            if new is not None:
                node[name] = new
        elif names and name == names[0]:
            _follow(value, names[1:], kept, n_players, towers)
        elif not _has_layers_of_its_own(value):
            node[name] = _renumbered(name, value, kept, n_players)
            _follow(node[name], [], kept, n_players, towers)  # type: ignore[arg-type]


def _has_layers_of_its_own(fields: Fields) -> bool:
    return "model_type" in fields or any(is_layer_count(name) for name in fields)


def _renumbered(name: str, table: Fields, kept: tuple[int, ...], n_players: int) -> Fields:
    """A table whose keys are numbers of layers, for those that stay."""
    numbers = [int(key) for key in table if key.isdigit()]
    by_layer = len(numbers) == len(table) > 0 and max(numbers) < n_players
    if not by_layer or not re.search("layer|block", name):
        return table
    return {str(kept.index(int(key))): part for key, part in table.items() if int(key) in kept}


def _merge(node: Fields, changes: Fields, aliases: Mapping[str, str]) -> None:
    """Put what the class made of the cut into the file, where it is not there by another name."""
    for name, value in changes.items():
        before = node.get(name)
        if isinstance(before, dict) and isinstance(value, dict) and is_sub_config(before):
            _merge(before, value, {})
        elif name in node or not _said_otherwise(name, value, node, aliases):
            node[name] = value


def _said_otherwise(name: str, value: object, node: Fields, aliases: Mapping[str, str]) -> bool:
    return any(
        other in node and node[other] == value and name in (target, other)
        for alias, target in aliases.items()
        for other in (alias, target)
        if other != name and name in (alias, target)
    )


def _values_of(node: Fields, names: list[str]) -> Fields:
    return copy.deepcopy(node) if names else {}


def _follow_copies(new: Fields, names: list[str], before: Fields, node: Fields) -> None:
    """Fields outside of the decoder's part that repeat one of its own are what that one is now."""
    outer = new
    for name in names:
        for field, value in outer.items():
            if field in before and value == before[field] and field in node and field != name:
                outer[field] = copy.deepcopy(node[field])
        outer = outer[name]  # type: ignore[assignment]
