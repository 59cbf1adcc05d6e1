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

_NUMBERED = re.compile(r"\.(\d+)\.")


@dataclass(frozen=True)
class DiskStack:
    """The decoder layers as the tensors on disk are named.

    Attributes:
        path: What precedes the layer number, such as ``"model.layers"`` or, without the base
            prefix, ``"h"``.
        n_players: Number of decoder layers. Higher numbers under ``path`` are layers that predict
            further tokens (MTP), which follow the decoder wherever it ends.
    """

    path: str
    n_players: int

    def rename(self, name: str, kept: tuple[int, ...]) -> str | None:
        """The new name of a tensor or module; None if its layer goes."""
        match = re.match(rf"{re.escape(self.path)}\.(\d+)(?=\.|$)", name)
        if match is None:
            return name
        number = self.renumber(int(match[1]), kept)
        return None if number is None else f"{self.path}.{number}{name[match.end() :]}"

    def renumber(self, layer: int, kept: tuple[int, ...]) -> int | None:
        """The new number of a layer; None if it goes."""
        if layer >= self.n_players:
            return layer - self.n_players + len(kept)
        return kept.index(layer) if layer in kept else None

    def rename_inside(self, text: str, kept: tuple[int, ...]) -> str:
        """A metadata value with the tensors it names renamed; other text comes back as it is."""
        try:
            value = json.loads(text)
        except ValueError:
            return text
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            names = [self.rename(item, kept) for item in value]
            return json.dumps([name for name in names if name is not None])
        if isinstance(value, dict):
            renamed = {self.rename(key, kept): inner for key, inner in value.items()}
            return json.dumps({key: inner for key, inner in renamed.items() if key is not None})
        return text


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
        fitting = [path for path, found in numbers.items() if set(range(count)) <= found]
        if fitting:
            return DiskStack(max(fitting, key=lambda path: sizes[path]), count)
    seen = ", ".join(f"{path} ({len(found)})" for path, found in numbers.items()) or "none"
    raise ModelError(
        f"the tensors on disk name no stack of layers: the config says {counts}, the numbered"
        f" names are {seen}"
    )
