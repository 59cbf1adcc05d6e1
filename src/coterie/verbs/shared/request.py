"""What a user asks for: one record, the same for the command line and for Python."""

import math
import shlex
from collections.abc import Collection
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

from coterie.errors import CutError, UserError
from coterie.game.estimation.estimators import ESTIMATORS
from coterie.game.search.methods import SEARCH_METHODS
from coterie.plain import Json
from coterie.players import BLOCKS, Kind, unit
from coterie.verbs.shared.provenance import bare
from coterie.verbs.shared.utility_spec import ITEMS, weights_of

METHODS = SEARCH_METHODS
"""How a coalition can be chosen, by name; the first is the default."""

SEQUENCES, LENGTH = 10, 128
"""Calibration as published: 10 sequences × 128 tokens (arXiv:2602.07804)."""

SEARCH_SEQUENCES = 32
"""Calibration of every other method, which decides on as many more: ten proved too few."""

HELD_OUT_SEQUENCES = 64
"""Most sequences that judge, of the same length; fewer where the text has fewer."""

SURROGATES = ("paper", "pairwise", "ensemble", "explained", "auto")

TARGETS = ("target_params", "target_bytes", "target_speedup")

BosPolicy = Literal["auto", "always", "never"]
_POSITIVE = ("remove", "keep", "sequences", "budget", "time", "state_memory", "repeats")
_CHOICES: dict[str, Collection[str]] = {
    "method": METHODS,
    "estimator": ESTIMATORS,
    "surrogate": SURROGATES,
}
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
        sequences: Calibration sequences; None is 10 for the paper's method and 32 for the others.
        length: Tokens of each; None is 128, or the model's context where that is shorter.
        budget: Most distinct coalitions to evaluate; ``time`` bounds the search in seconds.
        lock: Layers (0-based) that stay whatever happens, with all their blocks.
        device: ``"auto"``, a device, or several of one type: ``"cuda:0,cuda:1"``, ``"cuda:all"``.
        study: Name to resume a study by; one name, one set of settings.
        state_memory: Bytes that live states may take; by default half of what is free.
        target_params: Parameters to keep at most: a number, or a fraction below one of them all.
        target_bytes: The same for the bytes of the weights on disk.
        target_speedup: How many times faster a forward pass over the calibration texts becomes.
        front: Look for the best coalition of every size up to half of the players removed.
        repeats: Times to run, with other seeds and other texts, to see what comes back.
        estimator: How `values` estimates contributions.
        surrogate: What the paper's estimator is taken through; ``"auto"`` by held-out fidelity.
        interactions: Estimate what every two players have to do with each other.
        utility: A mix of tasks and text measures instead of the loss, as `mix_spec` reads it.
        tasks_dir: Folder of local tasks; ``task_items``, how many first items of each are asked.
        stream: Read the layers from disk one after the other; the model is never whole in memory.
    """

    model: str
    remove: int | None = None
    keep: int | None = None
    ratio: float | None = None
    players: str = "layer"
    method: str = next(iter(METHODS))
    revision: str | None = None
    calibration: str | None = None
    held_out: str | None = None
    sequences: int | None = None
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
    state_memory: int | None = None
    target_params: float | None = None
    target_bytes: float | None = None
    target_speedup: float | None = None
    front: bool = False
    repeats: int = 1
    estimator: str = next(iter(ESTIMATORS))
    surrogate: str = SURROGATES[0]
    interactions: bool = False
    utility: str | None = None
    tasks_dir: str | None = None
    task_items: int = ITEMS
    stream: bool = False

    def check(self, *, cutting: bool) -> None:
        """Refuse what can be refused before anything is loaded.

        Raises:
            UserError: one clear line about the first thing that is wrong.
        """
        given = self._amounts()
        if len(given) > 1:
            raise UserError(f"{' and '.join(given)} say the same thing twice: give one of them")
        if cutting and not given:
            raise UserError(
                "how much to cut is not said: give --remove N, --keep N, --ratio R or a --target"
            )
        if self.ratio is not None and not 0 < self.ratio < 1:
            raise CutError(f"--ratio {self.ratio} must lie between 0 and 1: it is what is REMOVED")
        for name in (*_POSITIVE, *TARGETS):
            number = getattr(self, name)
            if number is not None and not 0 < number < math.inf:
                raise CutError(f"{_option(name)} {number} must be above zero, and finite")
        if self.target_speedup is not None and self.target_speedup <= 1:
            raise CutError(f"--target-speedup {self.target_speedup:g} must be above 1")
        for name, known in _CHOICES.items():
            if (word := getattr(self, name)) not in known:
                raise UserError(f"--{name} {word} is unknown: there is {', '.join(known)}")
        if not cutting:
            self._check_values(given)
        self.player_kind()
        self._check_utility(cutting=cutting)
        self._check_stream()
        self._check_devices()
        self.bos_policy()
        if self.revision is not None and Path(self.model).exists():
            raise UserError(f"--revision goes with a model of the Hub; {self.model} is a folder")
        if self.seed < 0:
            raise UserError(f"--seed {self.seed} must not be negative")

    def _check_values(self, given: list[str]) -> None:
        """Refuse what `values` cannot do together."""
        if any(getattr(self, name) is not None for name in TARGETS):
            raise UserError("a --target says how much to cut: it goes with prune")
        if self.front and (given or self.repeats > 1):
            raise UserError("--front is every size at once: give it without an amount or --repeats")
        if self.repeats > 1 and not given:
            raise UserError("--repeats compares cuts: say how much, with --remove N")
        if self.front and METHODS[self.method].ranks:
            raise UserError("--front needs a method that searches: give --method guided")
        if self.interactions and (self.front or not ESTIMATORS[self.estimator].by_study):
            raise UserError("--interactions go with --estimator paper, and not with --front")
        if not ESTIMATORS[self.estimator].by_study and self.surrogate != SURROGATES[0]:
            raise UserError(f"--surrogate goes with --estimator paper, not {self.estimator}")

    def _check_utility(self, *, cutting: bool) -> None:
        """Refuse what a mix of utilities cannot be, or cannot do."""
        if self.utility is None:
            if self.tasks_dir is not None or self.task_items != ITEMS:
                raise UserError(
                    "tasks are asked for by --utility: say which, as in piqa=0.5,kl=0.5"
                )
            return
        if self.task_items < 1:
            raise UserError(
                f"--task-items {self.task_items} leaves nothing to ask: give at least 1"
            )
        weights_of(self.utility)
        if cutting and self.players != "layer":
            raise UserError(f"--utility cuts whole layers: leave out --players {self.players}")
        if cutting and METHODS[self.method].asks_parts:
            whole = ", ".join(name for name, one in METHODS.items() if not one.asks_parts)
            raise UserError(
                f"--method {self.method} judges on parts of the texts, and a mix of utilities is"
                f" asked as a whole: give one of --method {whole}"
            )
        estimates = not ESTIMATORS[self.estimator].by_study
        if not cutting and (self.front or self.interactions or self.repeats > 1 or estimates):
            raise UserError(
                "--utility estimates contributions through a surrogate: leave out --front, "
                "--interactions, --repeats and --estimator"
            )

    def _check_stream(self) -> None:
        """Refuse what needs the whole model in memory."""
        if not self.stream:
            return
        if self.players != "layer":
            raise UserError(f"--stream plays whole layers: leave out --players {self.players}")
        if self.target_speedup is not None:
            raise UserError("--target-speedup times a model in memory: leave out --stream")
        if self.utility is not None:
            raise UserError("--utility asks a model in memory: leave out --stream")

    def _check_devices(self) -> None:
        """Refuse several devices where one model is asked."""
        for option in ("stream", "utility"):
            if self.names_several and getattr(self, option):
                raise UserError(
                    f"--device {self.device} names several devices and --{option} uses one: name"
                    " one of them"
                )

    @property
    def names_several(self) -> bool:
        """Whether a list of devices is asked for."""
        return "," in self.device or self.device == "cuda:all"

    def plays(self, *, cutting: bool) -> str:
        """The method that is played: `values` estimates, unless it looks for coalitions too."""
        return self.method if cutting or self.front or self.repeats > 1 else "paper"

    def sequences_of(self, *, cutting: bool) -> int:
        """How many sequences calibrate."""
        few = METHODS[self.plays(cutting=cutting)].ranks
        return self.sequences or (SEQUENCES if few else SEARCH_SEQUENCES)

    @property
    def target(self) -> str | None:
        """The name of the target that was given."""
        return next((name for name in TARGETS if getattr(self, name) is not None), None)

    def says_how_much(self) -> bool:
        """Whether an amount to cut was given."""
        return bool(self._amounts())

    def _amounts(self) -> list[str]:
        names = ("remove", "keep", "ratio", *TARGETS)
        return [_option(name) for name in names if getattr(self, name) is not None]

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
            words.append(_option(field.name))
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
        paths = ("model", "calibration", "held_out", "tasks_dir")
        named = {name: bare(getattr(self, name)) for name in paths}
        whole: dict[str, Json] = {**asdict(self), **named, "lock": list(self.lock)}
        if self.utility is None:  # nothing is said of tasks where none are asked
            for name in ("utility", "tasks_dir", "task_items"):
                del whole[name]
        if not self.stream:
            del whole["stream"]
        return whole


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
