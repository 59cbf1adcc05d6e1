"""What a comparison asks for: one request to open the game by, and who plays it how often."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from coterie.errors import CutError, UserError
from coterie.plain import Json
from coterie.verbs.compare.methods import STANDARD, methods
from coterie.verbs.shared.provenance import bare
from coterie.verbs.shared.request import Request


@dataclass(frozen=True)
class CompareRequest:
    """Which methods, at which sizes, on which model and texts.

    Args:
        base: Model, texts, device, dtype, locks and budget; how much to cut is said by
            ``removals``.
        removals: Numbers of layers to remove.
        methods: Names; empty for the standard ones.
        seeds: Runs of every method that depends on chance; the texts stay the same.
        lengths: Tokens of the held-out sequences; empty for the calibration's length.
        tasks: Zero-shot tasks, of the harness or of ``tasks_dir``; ``limit`` items of each.
        rounds: Timed rounds behind tokens per second; 0 times nothing.
    """

    base: Request
    removals: tuple[int, ...]
    methods: tuple[str, ...] = ()
    seeds: int = 3
    lengths: tuple[int, ...] = ()
    tasks: tuple[str, ...] = ()
    tasks_dir: Path | None = None
    limit: int | None = None
    rounds: int = 3

    @property
    def played(self) -> tuple[str, ...]:
        """The methods by name, in the order they play."""
        return self.methods or STANDARD

    def opening(self) -> Request:
        """The request that opens the game."""
        return Request(**{**vars(self.base), "remove": max(self.removals)})

    def check(self) -> None:
        """Refuse what can be refused before anything is loaded.

        Raises:
            UserError: one clear line about the first thing that is wrong.
        """
        if not self.removals:
            raise UserError("how much to cut is not said: give --remove 3,6,9")
        for name in ("removals", "methods", "lengths"):
            given = getattr(self, name)
            if len(set(given)) < len(given):
                raise UserError(f"{', '.join(map(str, given))} names one twice: name each once")
        if min(self.removals) < 1:
            raise CutError(f"--remove {min(self.removals)} must be above zero")
        for method in self.methods:
            if method not in methods():
                raise UserError(f"--methods {method} is unknown: there is {', '.join(methods())}")
        if self.seeds < 1 or self.rounds < 0:
            raise UserError(f"--seeds {self.seeds}, --rounds {self.rounds}: at least 1 and 0")
        if self.limit is not None and self.limit < 1:
            raise UserError(f"--limit {self.limit} leaves no item to score: give at least 1")
        if self.base.players != "layer":
            raise UserError("compare removes layers: leave --players out")
        if self.base.names_several:
            raise UserError(
                f"--device {self.base.device} names several devices, and compare measures seconds"
                " and memory on one: name one of them"
            )
        self.opening().check(cutting=True)

    def command(self) -> str:
        """The command line that asks for this, every path in it reduced to its last part."""
        words = [self.base.command("compare"), "--remove", ",".join(map(str, self.removals))]
        if self.methods:
            words += ["--methods", ",".join(self.methods)]
        words += ["--seeds", str(self.seeds)]
        if self.lengths:
            words += ["--lengths", ",".join(map(str, self.lengths))]
        if self.tasks:
            words += ["--tasks", shlex.quote(",".join(self.tasks))]
        if self.tasks_dir is not None:
            words += ["--tasks-dir", shlex.quote(str(bare(str(self.tasks_dir.resolve()))))]
        if self.limit is not None:
            words += ["--limit", str(self.limit)]
        if self.rounds != 3:
            words += ["--rounds", str(self.rounds)]
        return " ".join(words)

    def as_json(self) -> dict[str, Json]:
        """What is asked beside the base, as plain JSON."""
        return {
            "removals": list(self.removals),
            "methods": list(self.played),
            "seeds": self.seeds,
            "lengths": list(self.lengths),
            "tasks": list(self.tasks),
            "limit": self.limit,
            "rounds": self.rounds,
        }
