"""`inspect`: what a model is made of and what may be cut, without loading a weight."""

from coterie.models.cutting.config import checked_config
from coterie.models.cutting.preview import Inspection, inspect_config
from coterie.models.files.sources import resolve_config
from coterie.verbs.checkpoint_requests import InspectRequest
from coterie.verbs.shared.entry import public


@public
def inspect(request: InspectRequest) -> Inspection:
    """Inspect a model by its config alone; of a model on the Hub nothing else is fetched.

    >>> from coterie import InspectRequest, inspect
    >>> found = inspect(InspectRequest("reference", layers=(3, 4)))
    >>> len(found.players), found.changes["num_hidden_layers"]
    (16, 14)

    Raises:
        UserError: The model cannot be found or has no stack, or the cut cannot be made.
    """
    request.check()
    trust = request.trust_remote_code
    config = resolve_config(request.model, request.revision, trust_remote_code=trust)
    found = inspect_config(config, trust_remote_code=trust)
    if not request.layers:
        return found
    # Players are counted from the config, which also checks that the layers exist.
    kept = complement(request.layers, len(found.players))
    return inspect_config(config, kept, trust_remote_code=trust)


def complement(cut: tuple[int, ...], n_players: int) -> tuple[int, ...]:
    """The players that stay when some are cut.

    Raises:
        CutError: A layer that is not there, or named twice.
    """
    gone = checked_config(cut, n_players)
    return tuple(player for player in range(n_players) if player not in gone)
