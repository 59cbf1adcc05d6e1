"""The pruners: which weights of one linear map go, and what becomes of the others.

One file each, and one line in the table below. Nothing here imports torch before a pruner prunes,
so that help texts and checks may read the table.
"""

from coterie.sparsity.bounds import SparsityError
from coterie.sparsity.levels import Pruner
from coterie.sparsity.pruners.magnitude import Magnitude
from coterie.sparsity.pruners.sparsegpt import SparseGPT
from coterie.sparsity.pruners.wanda import Wanda

# In the order in which help texts and messages list them.
PRUNERS: dict[str, Pruner] = {pruner.name: pruner for pruner in (Magnitude(), Wanda(), SparseGPT())}
"""The pruners by name, with their defaults."""


def find_pruner(name: str) -> Pruner:
    """The pruner of that name.

    Raises:
        SparsityError: There is none; the message lists those there are.

    >>> find_pruner("wanda").needs
    'norms'
    """
    if name not in PRUNERS:
        raise SparsityError(f"pruner {name!r} is unknown: there are {', '.join(PRUNERS)}")
    return PRUNERS[name]
