"""The last map before each gap is refitted (`down_proj`, as most families call it).

With x its inputs, y the state after it and t the full model's state after the gap,

    Δ = argmin Σ ω ‖x Δ − (t − y)‖² + λ ‖Δ‖²,

and W becomes W + Δ.
"""

from coterie.repair.interface import Repair
from coterie.repair.place import KeptLayer


def refit_down(place: KeptLayer) -> None:
    """Refit the last map before a gap."""
    if place.gap:
        wanted = place.beyond()
        place.run_before_last()
        place.refit([place.last], wanted)


DOWN = Repair("down", "the last map before a gap is refitted", None, refit_down)
