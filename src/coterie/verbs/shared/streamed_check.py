"""The checkpoint of a streamed cut, proved without ever being whole in memory."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from coterie.engine.streamed_game import StreamedGame
from coterie.errors import UserError, VerificationError
from coterie.game.coalitions import Coalition, Game, Vector, observe_all
from coterie.models.files.sources import Source
from coterie.models.tolerance import tolerance
from coterie.plain import Json


@dataclass(frozen=True, eq=False)
class Observed:
    """What a streamed model did under the coalition that stays; the cut one must do the same.

    Attributes:
        tokens: Token ids, ``(n_sequences, length)``.
        losses: Nats per token, ``(n_sequences,)``.
        dtype: In which they were computed, and the cut model is.
        device: Where.
        state_memory: Bytes for states; None is half of what is free.
    """

    tokens: NDArray[np.int64]
    losses: Vector
    dtype: torch.dtype
    device: torch.device
    state_memory: int | None


def losses_of(game: Game, coalition: Coalition) -> Vector:
    """Loss of one coalition on every sequence; from the store if it was asked before."""
    return observe_all(game, coalition[None]).nll[0]


def prove(observed: Observed, folder: Path, *, trust_remote_code: bool) -> dict[str, Json]:
    """Stream the written checkpoint and hold it against what its source did, text by text.

    Raises:
        VerificationError: a sequence has another loss, or the folder cannot be played.
    """
    _, gap = reopened(
        observed, folder, "the source's without the cut layers", trust_remote_code=trust_remote_code
    )
    return {
        "summary": f"streamed; on each of {len(observed.losses)} sequences the loss is within"
        f" {gap:.1e} nats per token of what the source gave without the cut layers;"
        " generation was not tried, for the model is never whole",
        "nll_difference": gap,
        "max_logit_difference": None,
        "generate": None,
    }


def reopened(
    observed: Observed, folder: Path, whose: str, *, trust_remote_code: bool
) -> tuple[StreamedGame, float]:
    """Stream a written checkpoint, and the largest difference from what it must do.

    Args:
        whose: Of whom the loss is that was observed, for the message.

    Raises:
        VerificationError: a sequence has another loss, or the folder cannot be played.
    """
    source = Source(folder.name, folder, None, trust_remote_code)
    try:
        game = StreamedGame(
            source,
            observed.tokens,
            dtype=observed.dtype,
            device=observed.device,
            state_memory=observed.state_memory,
            kl=False,
        )
        found = losses_of(game, np.ones(game.n_players, dtype=bool))
    except UserError as error:
        raise VerificationError(f"the written checkpoint cannot be read back: {error}") from error
    same = (found == observed.losses) | (np.isnan(found) & np.isnan(observed.losses))
    with np.errstate(invalid="ignore"):
        gaps = np.where(same, 0.0, np.abs(found - observed.losses))
    worst = int(np.argmax(np.nan_to_num(gaps, nan=np.inf)))
    allowed = tolerance(observed.dtype).reloaded_nats
    if not gaps[worst] <= allowed:
        raise VerificationError(
            f"the written checkpoint's loss on sequence {worst} is {found[worst]:.6f} nats per"
            f" token, {whose} {observed.losses[worst]:.6f}: they may differ by {allowed:.0e}"
        )
    return game, float(gaps[worst])
