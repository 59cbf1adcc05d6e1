"""What the runtimes of `--serve` ask of a cut, and what is refused before anything is loaded."""

from collections.abc import Iterable
from itertools import islice

import numpy as np

from coterie.errors import CutError
from coterie.game.search.methods import SEARCH_METHODS
from coterie.models.files.sources import Source
from coterie.models.runtimes.block_rules import BlockShape, misread_blocks
from coterie.models.runtimes.serving import Serving, serving_of
from coterie.models.runtimes.verdicts import Verdict
from coterie.report.schema.basics import ServingPart
from coterie.verbs.shared.request import Request
from coterie.verbs.shared.settings import size_asked


def serving_asked(request: Request, source: Source, n_players: int) -> Serving | None:
    """What the runtimes that are to load a cut ask of whole layers; None where they take any.

    Args:
        request: Names the runtimes, and what a player is.
        source: The files of the model.
        n_players: Players of the model.
    """
    # Single blocks are locked one by one instead (`settings.sketch`).
    if not request.serve or request.player_kind() != "layer":
        return None
    serving = serving_of(source.config(), request.serve, n_players)
    return serving if serving.restricts else None


def check_serving(
    request: Request, source: Source, n_players: int, locked: tuple[int, ...]
) -> None:
    """Refuse before anything is loaded what no runtime that was asked for would read.

    Args:
        request: Names the runtimes, the method and the amount.
        source: The files of the model.
        n_players: Players of the model.
        locked: Players that stay.

    Raises:
        CutError: no cut of that size is read rightly, or the method cannot keep to those that are.
    """
    if request.serve and request.player_kind() != "layer":
        check_blocks_served(request, source)
    serving = serving_asked(request, source, n_players)
    if serving is None:
        return
    asked = " ".join(f"--serve {name}" for name in request.serve)
    if SEARCH_METHODS[request.plays()].ranks:
        raise CutError(
            f"--method {request.plays()} ranks single layers, and {asked} takes only some sets of"
            " them for this model: give --method guided"
        )
    keep = size_asked(request, n_players, locked)
    if keep is None or serving.best(np.zeros(n_players), keep, locked) is not None:
        return
    others = sorted(range(1, n_players), key=lambda size: abs(size - keep))
    right = (n for n in others if serving.best(np.zeros(n_players), n, locked) is not None)
    near = sorted(n_players - size for size in islice(right, 4))
    why = "; ".join(dict.fromkeys(f"{name} {rule.why}" for name, rule in serving.rules))
    way_out = f"give --remove {' or '.join(map(str, near))}" if near else "leave it out"
    raise CutError(f"no cut to {keep} layers is read rightly under {asked} ({why}): {way_out}")


def check_blocks_served(request: Request, source: Source) -> None:
    """Refuse single blocks that a runtime that was asked for would not read rightly.

    Raises:
        CutError: it takes no cut of them, or none of this kind.
    """
    fields = source.config().to_dict()
    shape = BlockShape.of(fields, (0, 1), (), ())
    for runtime in request.serve:
        why = misread_blocks(runtime, shape)
        if why is not None:
            raise CutError(
                f"--serve {runtime} takes no cut of single blocks of {source.name!r}: it {why}; cut"
                " whole layers instead"
            )
    if request.players == "mlp" and {"llama.cpp", "ollama"} & set(request.serve):
        raise CutError(
            "--players mlp cuts feed-forward blocks, and llama.cpp then skips the attention of such"
            " a layer too: give --players attention"
        )


def serving_parts(verdicts: Iterable[Verdict]) -> list[ServingPart]:
    """Verdicts as a record holds them."""
    return [ServingPart(one.runtime, one.reads, one.remark) for one in verdicts]
