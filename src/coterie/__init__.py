"""Coterie finds the coalition of layers that carries a language model, and cuts the rest away.

    from coterie import Request, prune

    result = prune(Request("reference", remove=4), output="out")
    print(result.removed, result.record["verdict"]["ratio"])

The pieces are usable alone, on any game: `coterie.game` (designs, semivalues, surrogates),
`coterie.store.observations` and `coterie.game.study` import neither torch nor transformers.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from coterie.models.loaded.quiet import silence_imports

if TYPE_CHECKING:
    from coterie.errors import CoterieError, UserError, VerificationError
    from coterie.verbs.prune.run import prune
    from coterie.verbs.shared.request import Request
    from coterie.verbs.shared.result import Result
    from coterie.verbs.values.run import values

_HOME = {
    "CoterieError": "coterie.errors",
    "Request": "coterie.verbs.shared.request",
    "Result": "coterie.verbs.values.run",
    "UserError": "coterie.errors",
    "VerificationError": "coterie.errors",
    "prune": "coterie.verbs.prune.run",
    "values": "coterie.verbs.values.run",
}

__all__ = [
    "CoterieError",
    "Request",
    "Result",
    "UserError",
    "VerificationError",
    "prune",
    "values",
]


silence_imports()


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("coterie")
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'coterie' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
