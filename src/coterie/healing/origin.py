"""Which layers of a full model a cut checkpoint consists of, told from the bytes of both."""

import hashlib
from collections import defaultdict

from coterie.errors import UserError
from coterie.models.cutting.layer_names import find_disk_stack
from coterie.models.files.sources import Source
from coterie.models.files.tensors import Entry

_SAMPLED = 2**16
"""Bytes of each tensor that are compared, at its start; trained layers differ there."""


class HealError(UserError):
    """A healing that cannot be done as asked."""


def kept_players(cut: Source, full: Source) -> tuple[int, ...]:
    """The layers of ``full``, 0-based and ascending, that ``cut`` consists of, in its order.

    The answer needs no record of the cut: a layer that was kept has kept its bytes.

    Raises:
        HealError: some layer of ``cut`` is no layer of ``full``, or not a single one is missing.
    """
    ours, theirs = _layers(cut), _layers(full)
    places: dict[str, list[int]] = defaultdict(list)
    for place, layer in enumerate(theirs):
        places[layer].append(place)
    kept: list[int] = []
    for place, layer in enumerate(ours):
        # Layers may be alike, so the order decides: the first that comes after the last found.
        later = [one for one in places[layer] if not kept or one > kept[-1]]
        if not later:
            raise HealError(
                f"layer {place} of {cut.name!r} is no layer of {full.name!r}, after which it should"
                " be healed: name the model it was cut from with --teacher; a checkpoint that was"
                " healed or quantized is not healed again, heal the cut one"
            )
        kept.append(later[0])
    if len(kept) == len(theirs):
        raise HealError(
            f"{cut.name!r} has all {len(theirs)} layers of {full.name!r}: there is nothing to heal"
        )
    return tuple(kept)


def _layers(source: Source) -> list[str]:
    """One digest per layer, over the names, shapes and first bytes of its tensors."""
    stack = find_disk_stack(source.entries, source.config())
    digests = [hashlib.sha256() for _ in range(stack.n_players)]
    # Sorted, because two checkpoints may hold the same tensors in another order.
    for entry in sorted(source.entries, key=lambda entry: entry.name):
        inside = entry.name.removeprefix(f"{stack.path}.")
        number, dot, name = inside.partition(".")
        if inside == entry.name or not (dot and number.isdigit() and int(number) < len(digests)):
            continue
        digests[int(number)].update(f"{name} {entry.dtype} {entry.shape}".encode() + _start(entry))
    return [digest.hexdigest() for digest in digests]


def _start(entry: Entry) -> bytes:
    with entry.file.open("rb") as file:
        file.seek(entry.start)
        return file.read(min(entry.n_bytes, _SAMPLED))
