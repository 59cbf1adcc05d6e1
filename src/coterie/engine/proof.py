"""How a cut checkpoint is proved: by its logits, or by its losses where it is never whole."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from coterie.engine.interface import Engine
from coterie.errors import UserError, VerificationError
from coterie.game.coalitions import Coalition, Game, Vector, observe_all
from coterie.models.cutting.verify import Expectation, verify
from coterie.models.files.sources import Source
from coterie.models.tolerance import tolerance
from coterie.plain import Json


@dataclass(frozen=True, eq=False)
class LogitProof:
    """The reloaded checkpoint must give the logits of the full model without what was cut."""

    expected: Expectation

    def check(self, folder: Path, *, trust_remote_code: bool) -> dict[str, Json]:
        """Load the checkpoint with plain transformers and compare logits and generation."""
        checked = verify(self.expected, folder, trust_remote_code=trust_remote_code)
        generated = {
            True: "cached generate as without the cache",
            None: "cached generate not compared, the full model's own differs",
        }[checked.generate_ok]
        return {
            "summary": f"loss within {checked.nll_difference:.1e} nats per token and logits within "
            f"{checked.max_logit_difference:.1e} of the masked full model, {generated}",
            "nll_difference": checked.nll_difference,
            "max_logit_difference": checked.max_logit_difference,
            "generate": checked.generate_ok,
        }


@dataclass(frozen=True, eq=False)
class LossProof:
    """The written checkpoint, read layer by layer, must have the losses that were measured.

    Attributes:
        losses: Nats per token, ``(n_sequences,)``.
        dtype: Of the computation, here and when the checkpoint is read back.
        reopen: Opens a checkpoint, layer by layer, on the texts of the losses.
        whose: Words for messages that say which model these losses are of.
    """

    losses: Vector
    dtype: torch.dtype
    reopen: Callable[[Source], Engine]
    whose: str = "the source's without the cut layers"

    def check(self, folder: Path, *, trust_remote_code: bool) -> dict[str, Json]:
        """Stream the written checkpoint and compare it text by text."""
        _, gap = self.reopened(folder, trust_remote_code=trust_remote_code)
        return {
            "summary": f"streamed; on each of {len(self.losses)} sequences the loss is within"
            f" {gap:.1e} nats per token of what the source gave without the cut layers;"
            " generation was not tried, for the model is never whole",
            "nll_difference": gap,
            "max_logit_difference": None,
            "generate": None,
        }

    def reopened(self, folder: Path, *, trust_remote_code: bool) -> tuple[Engine, float]:
        """The written checkpoint, streamed, and its largest difference in nats per token.

        Args:
            folder: Where the checkpoint is.
            trust_remote_code: Whether Python files in it may be run.

        Raises:
            VerificationError: a sequence has another loss, or the folder cannot be read.
        """
        source = Source(folder.name, folder, None, trust_remote_code)
        try:
            engine = self.reopen(source)
            # Of the checkpoint that was written every layer is kept: what was cut is not in it.
            found = losses_of(engine, np.ones(engine.n_players, dtype=bool))
        except UserError as error:
            raise VerificationError(
                f"the written checkpoint cannot be read back: {error}"
            ) from error
        return engine, self._largest_difference(found)

    def _largest_difference(self, found: Vector) -> float:
        # Equal infinities and NaN in the same place count as equal: their difference would be NaN.
        same = (found == self.losses) | (np.isnan(found) & np.isnan(self.losses))
        with np.errstate(invalid="ignore"):
            gaps = np.where(same, 0.0, np.abs(found - self.losses))
        worst = int(np.argmax(np.nan_to_num(gaps, nan=np.inf)))
        allowed = tolerance(self.dtype).reloaded_nats
        # Written so that a NaN is refused too.
        if not gaps[worst] <= allowed:
            raise VerificationError(
                f"the written checkpoint's loss on sequence {worst} is {found[worst]:.6f} nats per"
                f" token, {self.whose} {self.losses[worst]:.6f}: they may differ by {allowed:.0e}"
            )
        return float(gaps[worst])


def losses_of(game: Game, coalition: Coalition) -> Vector:
    """Loss of one coalition on every sequence, nats per token, ``(n_sequences,)``."""
    return observe_all(game, coalition[None]).nll[0]
