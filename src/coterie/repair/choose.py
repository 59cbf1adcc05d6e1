"""A cut repaired, and held against the cut as it was: what does not help is not applied."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from coterie.errors import RepairError
from coterie.game.coalitions import Vector
from coterie.repair.changes import NewWeights
from coterie.repair.interface import Repair
from coterie.repair.refitted import Refitted
from coterie.repair.repairable import Repairable
from coterie.repair.table import REPAIRS
from coterie.repair.walk import Walk
from coterie.texts.sets import Tokens

AUTO = ("spread", "progressive")
"""What `auto` tries, best first by what was measured on a real model (docs/log.md); on a CPU the
first alone: one takes minutes there, and twice the text is worth more than a second try."""


@dataclass(frozen=True, eq=False)
class Repaired:
    """What a repair came to.

    Attributes:
        name: The repair that is applied; ``"none"`` where none lowers the loss.
        weights: The changed weights by their names in the full model; empty where none are.
        loss: Loss of the cut model on each selection text without any repair, nats per token.
        losses: The same of every repair that was tried, by its name.
        refitted: What the applied repair refitted.
        remarks: Why a repair was not tried or not applied.
    """

    name: str
    weights: NewWeights
    loss: Vector
    losses: dict[str, Vector] = field(default_factory=dict)
    refitted: tuple[Refitted, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def gain(self) -> float:
        """Nats per token that the repair gives back on the selection texts."""
        chosen = self.losses.get(self.name)
        return 0.0 if chosen is None else float((self.loss - chosen).mean())


def names_of(asked: str, device: str = "cpu") -> tuple[str, ...]:
    """The repairs to try when one is asked for by name.

    Args:
        asked: Name of a repair, ``"auto"`` or ``"none"``.
        device: Type of the device it is made on.

    Raises:
        RepairError: The name is unknown.
    """
    if asked == "none":
        return ()
    if asked == "auto":
        return AUTO[:1] if device == "cpu" else AUTO
    if asked not in REPAIRS:
        known = ", ".join(("auto", "none", *REPAIRS))
        raise RepairError(f"repair {asked!r} is unknown: choose one of {known}")
    return (asked,)


def repaired_weights(
    whole: Repairable, kept: Sequence[int], tokens: Tokens, repair: Repair
) -> tuple[NewWeights, tuple[Refitted, ...]]:
    """The weights of one repair; the model is left as it was.

    Args:
        whole: The full model, in memory or on disk.
        kept: The layers that stay.
        tokens: Texts to fit on, ``(n_sequences, length)``.
        repair: Which repair.

    Raises:
        RepairError: The model or the texts do not allow it.
    """
    walk = Walk(whole, kept, torch.from_numpy(tokens).to(whole.device))
    try:
        repair.refit(walk)
    finally:
        weights = walk.changes.taken_back()
    return weights, tuple(walk.refitted)


def repaired(
    whole: Repairable,
    kept: Sequence[int],
    texts: tuple[Tokens, Tokens],
    asked: str = "auto",
) -> Repaired:
    """The best repair of a cut among those asked for, or none where none lowers the loss.

    Args:
        whole: The full model, in memory or on disk; it is left as it was.
        kept: The layers that stay.
        texts: Those to fit on and those to select by, ``(n_sequences, length)`` each.
        asked: Name of a repair, ``"auto"`` or ``"none"``.

    Raises:
        RepairError: The one repair asked for cannot be had, or its name is unknown.
    """
    fit, select = texts
    loss = whole.losses(kept, select, {})
    best = Repaired("none", {}, loss)
    losses: dict[str, Vector] = {}
    remarks: list[str] = []
    for name in names_of(asked, whole.device.type):
        try:
            weights, refitted = repaired_weights(whole, kept, fit, REPAIRS[name])
        except RepairError as error:
            if asked != "auto":
                raise
            remarks.append(f"{name}: {error}")
            continue
        losses[name] = whole.losses(kept, select, weights)
        lowest = losses[best.name] if best.weights else loss
        if losses[name].mean() < lowest.mean():
            best = Repaired(name, weights, loss, refitted=refitted)
        else:
            than = f"{best.name}" if best.weights else "the cut as it is"
            remarks.append(
                f"{name} is not applied: on the selection texts it loses"
                f" {losses[name].mean() - lowest.mean():.4f} nats per token more than {than}"
            )
    return replace(best, losses=losses, remarks=tuple(remarks))
