"""The pruners: which weights of one linear map go, and what becomes of the others."""

from coterie.sparsity.levels import Pruner, SparsityError
from coterie.sparsity.pruners.magnitude import Magnitude
from coterie.sparsity.pruners.sparsegpt import SparseGPT
from coterie.sparsity.pruners.wanda import Wanda

PRUNERS: dict[str, Pruner] = {pruner.name: pruner for pruner in (Magnitude(), Wanda(), SparseGPT())}
"""The pruners by name, with their defaults."""


def find_pruner(name: str) -> Pruner:
    """The pruner of that name.

    Raises:
        SparsityError: There is none; the message lists those there are.
    """
    if name not in PRUNERS:
        raise SparsityError(f"pruner {name!r} is unknown: there are {', '.join(PRUNERS)}")
    return PRUNERS[name]
