"""What a user asks for: one record, the same for the command line and for Python."""

import math
import shlex
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

from coterie.errors import CutError, UserError
from coterie.pipeline.provenance import bare
from coterie.plain import Json
from coterie.report.words import BLOCKS, Kind, unit

METHODS = ("paper",)
SEQUENCES, LENGTH = 10, 128
"""Calibration as published: 10 sequences × 128 tokens (arXiv:2602.07804)."""

HELD_OUT_SEQUENCES = 64
"""Most sequences that judge, of the same length; fewer where the text has fewer."""

BosPolicy = Literal["auto", "always", "never"]
_BOS: tuple[BosPolicy, ...] = ("auto", "always", "never")


@dataclass(frozen=True)
class Request:
    """Which model, how much of it goes, on which texts, and how hard to look.

    Args:
        model: Hugging Face id, local folder, or ``"reference"``, the model that ships inside.
        remove: Players to cut; or give ``keep``, or ``ratio`` (the fraction of players removed).
        players: What may be cut: each ``"layer"``, its ``"attention"`` or ``"mlp"`` (feed-forward)
            block, or either of them (``"sublayer"``).
        calibration: Text that decides: a file, a Hub data set, a mixture, or ``"stdlib"``.
        held_out: Text that judges; without it, whole documents are set aside.
        sequences: Calibration sequences of ``length`` tokens each; None is 128, or the model's
            context where that is shorter.
        budget: Most distinct coalitions to evaluate; ``time`` bounds the search in seconds.
        lock: Layers (0-based) that stay whatever happens, with all their blocks.
        study: Name to resume a study by; one name, one set of settings.
    """

    model: str
    remove: int | None = None
    keep: int | None = None
    ratio: float | None = None
    players: str = "layer"
    method: str = "paper"
    revision: str | None = None
    calibration: str | None = None
    held_out: str | None = None
    sequences: int = SEQUENCES
    length: int | None = None
    bos: str = "auto"
    budget: int | None = None
    time: float | None = None
    lock: tuple[int, ...] = ()
    seed: int = 0
    device: str = "auto"
    dtype: str = "auto"
    trust_remote_code: bool = False
    study: str | None = None

    def check(self, *, cutting: bool) -> None:
        """Refuse what can be refused before anything is loaded.

        Raises:
            UserError: one clear line about the first thing that is wrong.
        """
        given = self._amounts()
        if len(given) > 1:
            raise UserError(f"{' and '.join(given)} say the same thing twice: give one of them")
        if cutting and not given:
            raise UserError("how much to cut is not said: give --remove N, --keep N or --ratio R")
        if self.ratio is not None and not 0 < self.ratio < 1:
            raise CutError(f"--ratio {self.ratio} must lie between 0 and 1: it is what is REMOVED")
        for name in ("remove", "keep", "sequences", "budget", "time"):
            number = getattr(self, name)
            if number is not None and not 0 < number < math.inf:
                raise CutError(f"--{name} {number} must be above zero, and finite")
        if self.method not in METHODS:
            raise UserError(f"--method {self.method} is unknown: there is {', '.join(METHODS)}")
        self.player_kind()
        self.bos_policy()
        if self.revision is not None and Path(self.model).exists():
            raise UserError(f"--revision goes with a model of the Hub; {self.model} is a folder")
        if self.seed < 0:
            raise UserError(f"--seed {self.seed} must not be negative")

    def says_how_much(self) -> bool:
        """Whether an amount to cut was given."""
        return bool(self._amounts())

    def _amounts(self) -> list[str]:
        return [f"--{n}" for n in ("remove", "keep", "ratio") if getattr(self, n) is not None]

    def player_kind(self) -> Kind:
        """What a player is.

        Raises:
            UserError: none of the kinds there are.
        """
        for kind in BLOCKS:
            if self.players == kind:
                return kind
        raise UserError(f"--players {self.players} are unknown: there are {', '.join(BLOCKS)}")

    def bos_policy(self) -> BosPolicy:
        """What stands before every sequence.

        Raises:
            UserError: none of the policies there are.
        """
        for policy in _BOS:
            if self.bos == policy:
                return policy
        raise UserError(f"--bos {self.bos} is unknown: there is {', '.join(_BOS)}")

    def players_to_remove(self, n_players: int, locked: tuple[int, ...]) -> int:
        """How many players go; the ratio is rounded half up and removes at least one.

        Raises:
            CutError: more than the unlocked players would go, or none.
        """
        free, units = n_players - len(locked), unit(self.players, plural=True)
        if self.remove is not None:
            removed = self.remove
        elif self.keep is not None:
            removed = n_players - self.keep
        elif self.ratio is not None:
            removed = max(1, math.floor(self.ratio * n_players + 0.5))
        else:
            raise CutError("how much to cut is not said: give remove, keep or ratio")
        if removed < 1:
            raise CutError(f"--keep {self.keep} of {n_players} {units} removes nothing: keep fewer")
        if removed >= free:
            held = f", {len(locked)} of them locked" if locked else ""
            raise CutError(
                f"cannot remove {removed} {units}: the model has {n_players}{held}, "
                f"so at most {max(0, free - 1)} can go"
            )
        return removed

    def command(self, verb: str, output: Path | None = None) -> str:
        """The command line that asks for this, every path in it reduced to its last part."""
        words = ["coterie", verb, str(bare(self.model))]
        for field in fields(self)[1:]:
            value = getattr(self, field.name)
            if value == field.default or value is None:
                continue
            words.append(f"--{field.name.replace('_', '-')}")
            if field.name == "lock":
                words.append(",".join(map(str, value)))
            elif field.name == "time":
                words.append(f"{value:g}s")
            elif value is not True:
                words.append(str(bare(value) if isinstance(value, str) else value))
        if output is not None:
            words += ["--output", output.name]
        return shlex.join(words)

    def as_json(self) -> dict[str, Json]:
        """The request as plain JSON; paths are reduced to their last part."""
        named = {name: bare(getattr(self, name)) for name in ("model", "calibration", "held_out")}
        return {**asdict(self), **named, "lock": list(self.lock)}
