"""Which layers of a full model a cut checkpoint consists of, told from the bytes of both."""

import hashlib
from dataclasses import dataclass

from coterie.errors import UserError
from coterie.models.cutting.layer_names import find_disk_stack
from coterie.models.families.fields import text_config
from coterie.models.files.sources import Source
from coterie.models.files.tensors import Entry

_SAMPLED = 2**16
"""Bytes of each tensor that are compared, at its start; trained layers differ there."""


class HealError(UserError):
    """A healing that cannot be done as asked."""


@dataclass(frozen=True)
class Descent:
    """How a checkpoint came from a full model.

    Attributes:
        kept: The layers of the full model it consists of, 0-based and ascending.
        changed: Tensors that differ, by their names on disk in the full model's files.
    """

    kept: tuple[int, ...]
    changed: tuple[str, ...]


def kept_players(cut: Source, full: Source) -> tuple[int, ...]:
    """The layers of ``full``, 0-based and ascending, that ``cut`` consists of, in its order.

    Raises:
        HealError: as `descent`.
    """
    return descent(cut, full).kept


def descent(cut: Source, full: Source) -> Descent:
    """Which layers of a full model a checkpoint kept, and which of their tensors were refitted.

    The answer needs no record of the cut: a layer that was kept has kept its bytes, or most of its
    tensors have theirs, where a repair refitted the others.

    Args:
        cut: The checkpoint.
        full: The model it was cut from.

    Raises:
        HealError: some layer of ``cut`` is no layer of ``full``, or not a single one is missing.
    """
    _check_vocabulary(cut, full)
    ours, theirs = _Digests.of(cut), _Digests.of(full)
    kept: list[int] = []
    changed = [name for name, one in theirs.outside.items() if ours.outside.get(name, one) != one]
    for place, layer in enumerate(ours.layers):
        # Layers may be alike, so the order decides: the first that comes after the last found.
        later = range(kept[-1] + 1 if kept else 0, len(theirs.layers))
        alike = [_alike(layer, theirs.layers[one]) for one in later]
        if not alike or max(alike) <= len(layer) / 2:
            raise HealError(
                f"layer {place} of {cut.name!r} is no layer of {full.name!r}, after which it should"
                " be healed: name the model it was cut from with --teacher; a checkpoint that was"
                " healed or quantized is not healed again, heal the cut one"
            )
        found = later[alike.index(max(alike))]
        kept.append(found)
        whole = theirs.layers[found]
        differ = [name for name, digest in layer.items() if whole.get(name) != digest]
        changed += [f"{theirs.path}.{found}.{name}" for name in differ]
    if len(kept) == len(theirs.layers):
        raise HealError(
            f"{cut.name!r} has all {len(kept)} layers of {full.name!r}: there is nothing to heal"
        )
    return Descent(tuple(kept), tuple(changed))


def _check_vocabulary(cut: Source, full: Source) -> None:
    """Refuse a teacher of other tokens: what it predicts means nothing to the other."""
    sizes = [getattr(text_config(one.config()), "vocab_size", None) for one in (cut, full)]
    if sizes[0] != sizes[1]:
        raise HealError(
            f"{full.name!r} has a vocabulary of {sizes[1]:,} tokens and {cut.name!r} one of"
            f" {sizes[0]:,}: name the model it was cut from with --teacher"
        )


def _alike(layer: dict[str, str], other: dict[str, str]) -> int:
    """How many tensors two layers share; none where they are not of one kind."""
    if layer.keys() != other.keys():
        return 0
    return sum(other[name] == digest for name, digest in layer.items())


@dataclass(frozen=True)
class _Digests:
    """A digest of every tensor of a checkpoint, over dtype, shape and first bytes.

    Attributes:
        path: Of its layers, on disk.
        layers: For each layer, by the names inside it.
        outside: Of everything else, by name.
    """

    path: str
    layers: list[dict[str, str]]
    outside: dict[str, str]

    @classmethod
    def of(cls, source: Source) -> "_Digests":
        """Read the files of a checkpoint."""
        stack = find_disk_stack(source.entries, source.config())
        layers: list[dict[str, str]] = [{} for _ in range(stack.n_players)]
        outside = {}
        for entry in source.entries:
            facts = f"{entry.dtype} {entry.shape}".encode()
            digest = hashlib.sha256(facts + _start(entry)).hexdigest()
            inside = entry.name.removeprefix(f"{stack.path}.")
            number, dot, name = inside.partition(".")
            if inside != entry.name and dot and number.isdigit() and int(number) < len(layers):
                layers[int(number)][name] = digest
            else:
                outside[entry.name] = digest
        return cls(stack.path, layers, outside)


def _start(entry: Entry) -> bytes:
    with entry.file.open("rb") as file:
        file.seek(entry.start)
        return file.read(min(entry.n_bytes, _SAMPLED))
