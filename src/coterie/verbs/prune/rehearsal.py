"""A run's end before its beginning: an empty cut, written where the real one will be.

What cannot be written, read again or put in place is so said within seconds, not after a search.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from coterie.errors import CoterieError, CutError, VerificationError
from coterie.models.cutting.blocks import plan_block_cut, saved_in_blocks
from coterie.models.cutting.write import plan_cut, write_fields
from coterie.models.files.fit import meta_model
from coterie.models.files.sources import Source
from coterie.plain import Json
from coterie.players import of_blocks
from coterie.verbs.outputs.place import OutputFolder
from coterie.verbs.outputs.rehearsal import rehearsed, weights_take
from coterie.verbs.shared.prepared import Prepared
from coterie.verbs.shared.settings import size_asked


def rehearse_prune(place: OutputFolder, prepared: Prepared, identity: Mapping[str, Json]) -> None:
    """Write config, index and record of one legal cut, read them again, and put them in place.

    Args:
        place: Where the run ends.
        prepared: The model and what is asked of it.
        identity: What the record will hold.

    Raises:
        CoterieError: whatever the end of the run would meet, but for what lies in the weights.
    """
    source, request = prepared.source, prepared.request
    n_players, locked = prepared.n_players, prepared.locked
    keep = size_asked(request, n_players, locked)
    needed = weights_take(source, 1.0 if keep is None else keep / n_players)
    with rehearsed(place, source, identity, needed=needed) as folder:
        if request.goes_on_among_blocks and saved_in_blocks(source):
            free = _middle(n_players, of_blocks(locked, "sublayer"))
            plan_block_cut(source, {free}, set(), folder)
        if request.player_kind() == "layer":
            _rehearse_layers(source, n_players, locked, keep, folder)
            trust = source.trust_remote_code
        else:
            plan_block_cut(source, {_middle(n_players // 2, locked)}, set(), folder)
            trust = True  # the one Python file is the package's own, just written
        meta_model(Source(source.name, folder, None, trust).config(), trust_remote_code=trust)


def _rehearse_layers(
    source: Source, n_players: int, locked: tuple[int, ...], keep: int | None, folder: Path
) -> None:
    """The config of the first cut that is legal, of a few; refused where none of them is."""
    refused: CoterieError | None = None
    for kept in _some_cuts(n_players, locked, n_players - 1 if keep is None else keep):
        try:
            write_fields(plan_cut(source, kept).fields, folder)
            return
        # Which layers go may decide whether they can; whatever else is refused is so for all.
        except (CutError, VerificationError) as error:
            refused = refused or error
    if refused is not None:
        raise refused


def _some_cuts(n_players: int, locked: tuple[int, ...], keep: int) -> Iterator[list[int]]:
    free = [layer for layer in range(n_players) if layer not in locked]
    n_gone = n_players - keep
    if not 0 < n_gone <= len(free):
        return
    spread = [free[place] for place in np.linspace(0, len(free) - 1, n_gone).round().astype(int)]
    for gone in (free[-n_gone:], free[:n_gone], spread):
        yield [layer for layer in range(n_players) if layer not in gone]


def _middle(n_layers: int, locked: tuple[int, ...]) -> int:
    # Blocks are numbered two a layer; a locked layer is locked with both.
    free = [layer for layer in range(n_layers) if 2 * layer not in locked]
    return free[len(free) // 2] if free else 0
