"""`inspect`: what a model is made of and what may be cut, told without loading a weight."""

from dataclasses import asdict

from coterie.models.cutting.config import checked_config
from coterie.models.cutting.preview import Inspection, inspect_config
from coterie.models.files.sources import resolve_config


def inspect(
    model: str,
    *,
    cut: tuple[int, ...] = (),
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> Inspection:
    """Inspect a model by its config alone.

    Args:
        model: Hub id, local folder or `reference`; of a Hub id only the config is fetched.
        cut: Layers whose cut is to be described, or none.
        revision: Branch, tag or commit of a Hub id.
        trust_remote_code: Allow the model's own Python files to run.

    Raises:
        UserError: The model cannot be found or has no stack, or the cut cannot be made.
    """
    config = resolve_config(model, revision, trust_remote_code=trust_remote_code)
    found = inspect_config(config, trust_remote_code=trust_remote_code)
    if not cut:
        return found
    kept = complement(cut, len(found.players))
    return inspect_config(config, kept, trust_remote_code=trust_remote_code)


def complement(cut: tuple[int, ...], n_players: int) -> tuple[int, ...]:
    """The players that stay when some are cut.

    Raises:
        CutError: A layer that is not there, or named twice.
    """
    gone = checked_config(cut, n_players)
    return tuple(player for player in range(n_players) if player not in gone)


def as_record(found: Inspection) -> dict[str, object]:
    """An inspection as plain JSON."""
    return asdict(found)
