"""As `progressive`, but the layer before a gap is not asked to close it alone.

It is fitted to a state between where it stands and what comes after the gap, with y* the full
model's state after it and t the full model's state after the gap,

    t' = y* + s (t − y*),   s = 0.6,

and the layers behind the gap, refitted in turn, make up the rest with maps of their own.
"""

from torch import Tensor

from coterie.repair.interface import Repair
from coterie.repair.methods.both import close_gap
from coterie.repair.methods.progressive import refit_behind
from coterie.repair.place import KeptLayer

SHARE = 0.6
"""The share of a gap that is asked of the layer before it."""


def refit_spread(place: KeptLayer) -> None:
    """Refit the maps before a gap towards a part of the way, and those behind it to the end."""
    if place.gap and place.turn.following < place.walk.stack.n_players:
        close_gap(place, part_of_the_way(place.after(), place.beyond()))
    elif place.gap:  # nothing behind it is left to make up the rest
        close_gap(place, place.beyond())
    elif place.behind:
        refit_behind(place)


def part_of_the_way(near: Tensor, far: Tensor) -> Tensor:
    """States between those after a layer and those after a gap, in one new table."""
    return (far - near).mul_(SHARE).add_(near)


SPREAD = Repair(
    "spread",
    "as progressive, with a gap closed in part before it and in part behind it",
    None,
    refit_spread,
)
