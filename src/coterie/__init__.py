"""Coterie finds the coalition of layers that carries a language model, and cuts the rest away.

    from coterie import Request, prune

    result = prune(Request("reference", remove=4), output="out")
    print(result.removed, result.record["verdict"]["ratio"])

The pieces are usable alone, on any game: `coterie.game` (designs, semivalues, surrogates),
`coterie.store` and `coterie.study` import neither torch nor transformers.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coterie.errors import CoterieError, UserError, VerificationError
    from coterie.pipeline.prune import prune
    from coterie.pipeline.request import Request
    from coterie.pipeline.values import Result, values

_HOME = {
    "CoterieError": "coterie.errors",
    "Request": "coterie.pipeline.request",
    "Result": "coterie.pipeline.values",
    "UserError": "coterie.errors",
    "VerificationError": "coterie.errors",
    "prune": "coterie.pipeline.prune",
    "values": "coterie.pipeline.values",
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


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("coterie")
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'coterie' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
