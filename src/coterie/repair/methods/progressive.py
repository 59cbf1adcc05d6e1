"""Every map that writes to the state is refitted, from the first gap to the end.

Before a gap as in `both`. After it no layer is given what it was trained on, for no refit is
perfect: the maps of each kept layer are refitted, block by block, so that the state after the block
comes close to the full model's after the same block, on states as the repaired model makes them.
"""

from coterie.repair.interface import Repair
from coterie.repair.methods.both import refit_both
from coterie.repair.place import KeptLayer


def refit_progressive(place: KeptLayer) -> None:
    """Refit the maps before a gap, and those of a kept layer behind one."""
    if place.gap:
        refit_both(place)
    elif place.behind:
        refit_behind(place)


def refit_behind(place: KeptLayer) -> None:
    """Refit each block of a layer towards the full model's state after the same block."""
    for part, wanted in zip(place.parts, place.after_parts(), strict=True):
        place.refit([part], wanted)
        place.run(part)


PROGRESSIVE = Repair(
    "progressive",
    "the maps before a gap and of all layers behind it are refitted",
    None,
    refit_progressive,
)
