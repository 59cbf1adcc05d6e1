"""Which runtimes are to load what is cut."""

from dataclasses import dataclass
from typing import Annotated

from coterie.models.runtimes.names import RUNTIMES
from coterie.verbs.options.declare import Option, Options


@dataclass(frozen=True, kw_only=True)
class Serve(Options):
    """Which runtimes are to load what is cut."""

    serve: Annotated[
        tuple[str, ...],
        Option(
            "--serve",
            "RUNTIME",
            "Only a cut that this runtime reads rightly: transformers, vllm, llama.cpp, mlx or "
            "ollama; may be given again.",
            choices=lambda: RUNTIMES,
        ),
    ] = ()
