"""What `sparsify` is asked for: a model and its texts as everywhere, and how sparse it becomes."""

import shlex
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, get_args

from coterie.plain import Json
from coterie.sparsity.bounds import LEAST, MOST, Bounds, SparsityError
from coterie.sparsity.levels import Need, Pattern, more, share
from coterie.sparsity.pruners import find_pruner
from coterie.verbs.shared.request import Request
from coterie.verbs.sparsify.rules import RULES, Rule, find_rule

Measuring = Literal["auto", "exact", "surrogate", "window"]
"""Where contributions come from."""

CONTRIBUTIONS: tuple[Measuring, ...] = get_args(Measuring)

WINDOW = 5
"""Layers in a window of the sliding-window Shapley value."""


@dataclass(frozen=True)
class SparsifyRequest:
    """Which model, how sparse, by what rule, on which texts.

    Args:
        base: Model, texts, seed, device; ``base.players`` says what has a sparsity of its own,
            ``"layer"`` or ``"sublayer"``.
        sparsity: Share of the weights of all linear maps that become zero.
        pattern: Or an N:M pattern, such as ``"2:4"``: N of every M weights stay, on average.
        contributions: Exact, by surrogate (an additive game fitted in Shapley's kernel), or by
            sliding windows; ``"auto"`` is exact for up to 10 layers, else by surrogate.
        least: Least sparsity of a layer; ``most`` the most.
        pruning_sequences: Sequences of the calibration text that a pruner and OWL measure on, those
            of the game among them; None is 128, and ten tokens for every input of the widest map
            where Hessians are measured (at most 2,048 sequences).
    """

    base: Request
    sparsity: float | None = None
    pattern: str | None = None
    allocation: str = "sv-nup"
    pruner: str = "wanda"
    contributions: str = "auto"
    window: int = WINDOW
    least: float = LEAST
    most: float = MOST
    pruning_sequences: int | None = None

    def check(self) -> None:
        """Refuse what can be refused before anything is loaded.

        Raises:
            UserError: one clear line about the first thing that is wrong.
        """
        self.base.check(cutting=False)
        if (self.sparsity is None) == (self.pattern is None):
            raise SparsityError("say how sparse: give either --sparsity 0.6 or --pattern 2:4")
        rule = self.rule()
        self.measuring()
        find_pruner(self.pruner)
        if self.base.players not in ("layer", "sublayer"):
            raise SparsityError(
                f"--players {self.base.players} have no sparsity of their own: layer or sublayer"
            )
        if self.base.stream and not rule.streams:
            streamed = ", ".join(one.name for one in RULES.values() if one.streams)
            raise SparsityError(
                f"--allocation {self.allocation} judges variants of the model again and again,"
                f" which --stream would read from disk each time: give {streamed}, or"
                " leave out --stream"
            )
        if not 1 <= self.window <= 16:
            raise SparsityError(f"--window {self.window} must lie between 1 and 16 layers")
        if not self.most < 1:
            raise SparsityError(
                f"--most {self.most:g} must be below 1: a layer that is all zeros is better cut"
            )
        self.bounds().check(self.target())
        self._check_pruning_sequences()
        if rule.cuts and (self.pattern or self.base.players != "layer"):
            raise SparsityError(
                f"--allocation {rule.name} cuts whole layers and leaves any share of zeros in the"
                " others: give --sparsity, and --players layer"
            )

    def _check_pruning_sequences(self) -> None:
        if self.pruning_sequences is None:
            return
        if self.pruning_sequences < 1:
            raise SparsityError(
                f"--pruning-sequences {self.pruning_sequences} must be at least 1: a pruner"
                " measures on them"
            )
        if not self.measures():
            raise SparsityError(
                f"--pruner {self.pruner} looks at weights alone: leave out --pruning-sequences"
            )

    def measures(self) -> bool:
        """Whether what layers are given is measured: for the pruner, or for OWL's outliers."""
        return self.need() != "nothing"

    def need(self) -> Need:
        """The most that must be known of the inputs of linear maps, by the pruner or the rule."""
        return more(find_pruner(self.pruner).needs, self.rule().needs)

    def target(self) -> float:
        """The share of zeros asked for in all."""
        if self.pattern is not None:
            return share(Pattern.parse(self.pattern))
        assert self.sparsity is not None
        return self.sparsity

    def bounds(self) -> Bounds:
        """The least and the most sparsity of a layer; a pattern keeps one weight of a group."""
        if self.pattern is None:
            return Bounds(self.least, self.most)
        return Bounds(self.least, min(self.most, 1 - 1 / Pattern.parse(self.pattern).m))

    def group(self) -> int | None:
        """M of the pattern, None without one."""
        return None if self.pattern is None else Pattern.parse(self.pattern).m

    def rule(self) -> Rule:
        """How the target is shared out."""
        return find_rule(self.allocation)

    def measuring(self) -> Measuring:
        """Where contributions come from."""
        if self.contributions not in CONTRIBUTIONS:
            raise SparsityError(
                f"--contributions {self.contributions} are unknown: there are "
                f"{', '.join(CONTRIBUTIONS)}"
            )
        return self.contributions

    def command(self, output: Path) -> str:
        """The command line that asks for this, every path in it reduced to its last part."""
        words = []
        for one in fields(self)[1:]:
            value = getattr(self, one.name)
            if value != one.default:
                words += [f"--{one.name.replace('_', '-')}", str(value)]
        return f"{self.base.command('sparsify')} {shlex.join([*words, '--output', output.name])}"

    def as_json(self) -> dict[str, Json]:
        """The request as plain JSON."""
        own = {one.name: getattr(self, one.name) for one in fields(self)[1:]}
        return {**self.base.as_json(), **own}
