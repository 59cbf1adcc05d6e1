"""All repairs by their names."""

from coterie.repair.interface import Repair
from coterie.repair.methods.both import BOTH
from coterie.repair.methods.down import DOWN
from coterie.repair.methods.map import MAP
from coterie.repair.methods.progressive import PROGRESSIVE
from coterie.repair.methods.scalar import SCALAR
from coterie.repair.methods.spread import SPREAD

REPAIRS: dict[str, Repair] = {
    repair.name: repair for repair in (SCALAR, MAP, DOWN, BOTH, PROGRESSIVE, SPREAD)
}
"""From the one that changes least to the one that changes most."""
