"""What the layers are called in the files of a checkpoint, which need not be as in the model."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from transformers import PretrainedConfig

from coterie.errors import ModelError
from coterie.models.families.fields import layer_counts, text_config
from coterie.models.files.tensors import Entry
from coterie.models.loaded.stack import ELSEWHERE
from coterie.plain import parsed

_FURTHER = re.compile(r"(mtp|nextn).*(layers|modules|predict|depth)|(num|n)_(mtp|nextn)")
"""Names of fields that declare layers which predict further tokens."""

_NUMBERED = re.compile(r"\.(\d+)\.")


@dataclass(frozen=True)
class DiskStack:
    """The decoder layers as the tensors on disk are named.

    Attributes:
        path: What precedes the layer number, such as ``"model.layers"`` or, without the base
            prefix, ``"h"``.
        n_players: Number of decoder layers.
        n_further: Number of layers that predict further tokens (MTP) and are numbered on from
            there, as the config declares; they follow the decoder wherever it ends. Still higher
            numbers belong to no model: they are not carried.
    """

    path: str
    n_players: int
    n_further: int = 0

    def rename(self, name: str, kept: tuple[int, ...]) -> str | None:
        """The new name of a tensor or module; None if its layer goes."""
        match = re.match(rf"{re.escape(self.path)}\.(\d+)(?=\.|$)", name)
        if match is None:
            return name
        number = self.renumber(int(match[1]), kept)
        return None if number is None else f"{self.path}.{number}{name[match.end() :]}"

    def layer_of(self, name: str) -> int | None:
        """The layer that a tensor belongs to; None where it belongs to none."""
        match = re.search(rf"^{re.escape(self.path)}\.(\d+)\.", name)
        return None if match is None else int(match[1])

    def renumber(self, layer: int, kept: tuple[int, ...]) -> int | None:
        """The new number of a layer; None if it goes."""
        if layer >= self.n_players + self.n_further:
            return None
        if layer >= self.n_players:
            return layer - self.n_players + len(kept)
        return kept.index(layer) if layer in kept else None

    def rename_inside(self, text: str, kept: tuple[int, ...]) -> str:
        """A metadata value with the tensors it names renamed; other text comes back as it is."""
        try:
            value = parsed(text)
        except ValueError:
            return text
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            names = [self.rename(item, kept) for item in value]
            return json.dumps([name for name in names if name is not None])
        if isinstance(value, dict):
            renamed = {self.rename(key, kept): inner for key, inner in value.items()}
            return json.dumps({key: inner for key, inner in renamed.items() if key is not None})
        return text


def further_layers(config: PretrainedConfig) -> int:
    """How many layers that predict further tokens (MTP) a config declares after its decoder's."""
    fields = {**vars(config), **vars(text_config(config))}
    counts = [value for name, value in fields.items() if _FURTHER.search(name)]
    return max((value for value in counts if type(value) is int and value > 0), default=0)


def _holds_all(found: set[int], count: int) -> bool:
    return len(found) >= count and all(number in found for number in range(count))


def find_disk_stack(entries: Iterable[Entry], config: PretrainedConfig) -> DiskStack:
    """Tell from the names of all tensors which belong to the decoder layers.

    Raises:
        ModelError: No names are numbered 0 to n - 1, n being the config's number of layers.
    """
    numbers: dict[str, set[int]] = defaultdict(set)
    sizes: dict[str, int] = defaultdict(int)
    for entry in entries:
        match = _NUMBERED.search(entry.name)
        if match is None or ELSEWHERE.search(entry.name[: match.start()]):
            continue
        path = entry.name[: match.start()]
        numbers[path].add(int(match[1]))
        sizes[path] += entry.n_bytes
    counts = layer_counts(text_config(config))
    for count in counts.values():
        fitting = [path for path, found in numbers.items() if _holds_all(found, count)]
        if fitting:
            path = max(fitting, key=lambda path: sizes[path])
            return DiskStack(path, count, further_layers(config))
    seen = ", ".join(f"{path} ({len(found)})" for path, found in numbers.items()) or "none"
    raise ModelError(
        f"the tensors on disk name no stack of layers: the config says {counts}, the numbered"
        f" names are {seen}"
    )
