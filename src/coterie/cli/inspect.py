"""`coterie inspect MODEL`."""

from dataclasses import astuple
from typing import TYPE_CHECKING

from coterie.cli.show import show
from coterie.players import players
from coterie.verbs.checkpoint_requests import InspectRequest
from coterie.verbs.options.run import Report

if TYPE_CHECKING:
    from coterie.models.cutting.preview import Inspection, Player


def command(request: InspectRequest, run: Report) -> None:
    """Show a model's layers, which must stay and why, and what a cut would change.

    Reads only the config; no weight is loaded.

    Examples: coterie inspect reference;
    coterie inspect Qwen/Qwen3-0.6B --layers 3,7-9
    """
    from coterie.verbs.inspect import inspect

    show(lambda _: inspect(request), lambda found: _print(found, request), run)


# A short report, and nobody else prints it: kept beside its command.
def _print(found: "Inspection", request: InspectRequest) -> None:
    share = found.n_embedding / found.n_parameters
    print(f"{request.model}: {found.architecture}, {found.n_parameters:,} parameters")
    print(f"{share:.0%} of them are the embedding and the head, which stay whatever is cut")
    print(f"{len(found.players)} layers at {found.path}, {len(found.unlocked)} may be cut")
    print()
    # Layers that are alike in all that is told share a line.
    alike: dict[tuple[object, ...], list[Player]] = {}
    for player in found.players:
        alike.setdefault(astuple(player)[1:], []).append(player)
    numbers = [players([str(one.number) for one in group]) for group in alike.values()]
    width = max(map(len, numbers))
    for number, (player, *others) in zip(numbers, alike.values(), strict=True):
        kind = f"  {player.kind}" if player.kind else ""
        lock = f"  locked: {player.lock}" if player.lock else ""
        each = " each" if others else ""
        size = f"{player.n_parameters:>14,}"
        print(f"{number:>{width}}  {player.layer}  {size} parameters{each}{kind}{lock}")
    # What a cut would change is told only if layers were named.
    if request.layers:
        gone = ",".join(map(str, request.layers))
        print()
        print(f"without {gone}: {found.n_parameters_after:,} parameters; config.json changes:")
        for name, value in found.changes.items():
            print(f"  {name}: {value}")
