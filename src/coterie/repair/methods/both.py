"""The maps of the attention and of the feed-forward block before each gap are refitted (`o_proj`
and `down_proj`, as most families call them).

With x the inputs of both maps side by side, y the state after them and t the full model's state
after the gap,

    Δ = argmin Σ ω ‖x Δ − (t − y)‖² + λ ‖Δ‖².

The attention's map takes its part of Δ. That changes what enters the feed-forward block, so its map
is fitted once more, alone, on what enters it now.
"""

from torch import Tensor

from coterie.repair.interface import Repair
from coterie.repair.place import KeptLayer


def refit_both(place: KeptLayer) -> None:
    """Refit both maps before a gap."""
    if place.gap:
        close_gap(place, place.beyond())


def close_gap(place: KeptLayer, wanted: Tensor) -> None:
    """Refit both maps of a layer so that the state after it comes close to a wanted one.

    Args:
        place: The kept layer.
        wanted: States ``(n_sequences, length, width)``.
    """
    for number, part in enumerate(place.parts):
        place.refit(place.parts[number:], wanted, change=[part])
        place.run(part)


BOTH = Repair("both", "the maps of both blocks before a gap are refitted", None, refit_both)
