"""What `runs` is asked for."""

from dataclasses import dataclass
from typing import Annotated

from coterie.verbs.options.declare import Option, Options


@dataclass(frozen=True, kw_only=True)
class RunsRequest(Options):
    """What is looked at, and what of it is cleared.

    >>> RunsRequest(clear="gone").command()
    'coterie runs --clear gone'
    """

    VERB = "runs"

    clear: Annotated[
        str | None,
        Option(
            "--clear",
            "WHAT",
            "Forget the observations of a model (its name in the list), of folders that are `gone`,"
            " or `all`. Checkpoints stay where they are.",
        ),
    ] = None
