"""`coterie inspect MODEL`."""

from typing import TYPE_CHECKING

from coterie.cli.show import show
from coterie.verbs.checkpoint_requests import InspectRequest
from coterie.verbs.options.run import Report

if TYPE_CHECKING:
    from coterie.models.cutting.preview import Inspection


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
    print(f"{request.model}: {found.architecture}, {found.n_parameters:,} parameters")
    print(f"{len(found.players)} layers at {found.path}, {len(found.unlocked)} may be cut")
    print()
    for player in found.players:
        kind = f"  {player.kind}" if player.kind else ""
        lock = f"  locked: {player.lock}" if player.lock else ""
        size = f"{player.n_parameters:>14,}"
        print(f"{player.number:>4}  {player.layer}  {size} parameters{kind}{lock}")
    # What a cut would change is told only if layers were named.
    if request.layers:
        gone = ",".join(map(str, request.layers))
        print()
        print(f"without {gone}: {found.n_parameters_after:,} parameters; config.json changes:")
        for name, value in found.changes.items():
            print(f"  {name}: {value}")
