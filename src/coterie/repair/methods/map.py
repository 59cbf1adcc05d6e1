"""A matrix on the output of the block before each gap (ReplaceMe, arXiv:2505.02819).

With m the output of the last map before the gap, y the state after it and t the full model's state
after the gap,

    T = argmin Σ ω ‖m (T − 1) − (t − y)‖² + λ ‖T − 1‖²,

folded into the map: W becomes W T. It has fewer columns than the map has inputs, so it wants less
text than `down`, and gives less back.
"""

from coterie.repair.interface import Repair
from coterie.repair.place import KeptLayer


def refit_map(place: KeptLayer) -> None:
    """Put a matrix behind the last map before a gap."""
    if place.gap:
        wanted = place.beyond()
        place.run_before_last()
        place.refit_output(place.last, wanted)


MAP = Repair("map", "a matrix on the output of the block before a gap", "2505.02819", refit_map)
