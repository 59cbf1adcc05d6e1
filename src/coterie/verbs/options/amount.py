"""How much of a model goes."""

import math
from dataclasses import dataclass
from typing import Annotated

from coterie.errors import CutError, UserError
from coterie.players import unit
from coterie.verbs.options.declare import Option, Options, declared
from coterie.verbs.options.forms import FRACTION, QUANTITY


@dataclass(frozen=True, kw_only=True)
class Amount(Options):
    """How many players go; at most one of these is given."""

    remove: Annotated[
        int | None, Option("--remove", "N", "Layers to cut (or see --players).", above=0)
    ] = None
    keep: Annotated[int | None, Option("--keep", "N", "Or: layers to keep.", above=0)] = None
    # No bounds here: check_amount refuses a bad ratio with the reason, it is what is REMOVED.
    ratio: Annotated[
        float | None,
        Option(
            "--ratio",
            "R",
            "Or: fraction of layers REMOVED (0.25, 25%), rounded half up, at least 1.",
            form=FRACTION,
        ),
    ] = None

    def amounts(self) -> list[str]:
        """The options that say how much, of those that were given."""
        return given(self, Amount)

    def says_how_much(self) -> bool:
        """Whether an amount to cut was given."""
        return bool(self.amounts())


@dataclass(frozen=True, kw_only=True)
class TargetOptions(Amount):
    """Or what the cut model must meet; as little as possible is cut for it."""

    target_params: Annotated[
        float | None,
        Option(
            "--target-params",
            "N",
            "Or: cut as little as leaves at most N parameters (100M), or this fraction of them "
            "(0.75, 75%).",
            form=QUANTITY,
            above=0,
        ),
    ] = None
    target_bytes: Annotated[
        float | None,
        Option(
            "--target-bytes",
            "N",
            "Or: the same for bytes of the weights (200M).",
            form=QUANTITY,
            above=0,
        ),
    ] = None
    target_speedup: Annotated[
        float | None,
        Option(
            "--target-speedup",
            "X",
            "Or: as little as makes a forward pass X times faster; every layer is timed once.",
            above=1,
        ),
    ] = None

    def amounts(self) -> list[str]:
        """The options that say how much, of those that were given."""
        return given(self, TargetOptions)

    @property
    def target(self) -> str | None:
        """The name of the target that was given."""
        # Inherited fields are declared too; only those of this class begin with "target".
        names = (one.name for one in declared(TargetOptions) if one.name.startswith("target"))
        return next((name for name in names if getattr(self, name) is not None), None)


def given(options: Options, group: type) -> list[str]:
    """The options of a group that were given, as they are typed."""
    return [one.option.name for one in declared(group) if getattr(options, one.name) is not None]


def check_amount(amount: Amount) -> None:
    """Refuse two amounts, and a fraction that is not between 0 and 1.

    Raises:
        UserError: two amounts.
        CutError: a fraction out of bounds.
    """
    if len(said := amount.amounts()) > 1:
        raise UserError(f"{' and '.join(said)} say the same thing twice: give one of them")
    if amount.ratio is not None and not 0 < amount.ratio < 1:
        raise CutError(f"--ratio {amount.ratio} must lie between 0 and 1: it is what is REMOVED")


def players_to_remove(amount: Amount, kind: str, n_players: int, locked: tuple[int, ...]) -> int:
    """How many players go; the ratio is rounded half up and removes at least one.

    Args:
        amount: What was asked.
        kind: Of the players, for the message.
        n_players: How many the model has.
        locked: Those that stay.

    Raises:
        CutError: more than the unlocked players would go, or none.
    """
    # Locked players can never go, so they do not count as removable.
    free, units = n_players - len(locked), unit(kind, plural=True)
    if amount.remove is not None:
        removed = amount.remove
    elif amount.keep is not None:
        removed = n_players - amount.keep
    elif amount.ratio is not None:
        # Half up, as the help says: Python's round() would take 2.5 to 2.
        removed = max(1, math.floor(amount.ratio * n_players + 0.5))
    else:
        raise CutError("how much to cut is not said: give remove, keep or ratio")
    if removed < 1:
        raise CutError(f"--keep {amount.keep} of {n_players} {units} removes nothing: keep fewer")
    # At least one unlocked player stays: an empty stack is no model.
    if removed >= free:
        held = f", {len(locked)} of them locked" if locked else ""
        raise CutError(
            f"cannot remove {removed} {units}: the model has {n_players}{held}, "
            f"so at most {max(0, free - 1)} can go"
        )
    return removed
