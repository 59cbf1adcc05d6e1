"""All repairs by their names."""

from coterie.repair.both import BOTH
from coterie.repair.down import DOWN
from coterie.repair.interface import Repair
from coterie.repair.map import MAP
from coterie.repair.progressive import PROGRESSIVE
from coterie.repair.scalar import SCALAR
from coterie.repair.spread import SPREAD

REPAIRS: dict[str, Repair] = {
    repair.name: repair for repair in (SCALAR, MAP, DOWN, BOTH, PROGRESSIVE, SPREAD)
}
"""From the one that changes least to the one that changes most."""
