"""What `sparsify` is asked for: a model and its texts as everywhere, and how sparse it becomes."""

from dataclasses import dataclass, fields
from typing import ClassVar

from coterie.plain import Json
from coterie.sparsity.bounds import Bounds, SparsityError
from coterie.sparsity.levels import Need, Pattern, more, share
from coterie.sparsity.pruners import find_pruner
from coterie.verbs.options.machine import SEVERAL_DEVICES, Cluster, Device, Dtype, Memory
from coterie.verbs.options.search import Players, SearchOptions
from coterie.verbs.options.source import Model, Revision, Trust
from coterie.verbs.options.texts import Texts
from coterie.verbs.sparsify.options import CONTRIBUTIONS, WIDEST, Measuring, SparsityOptions
from coterie.verbs.sparsify.rules import RULES, Rule, find_rule
from coterie.verbs.values.request import ValuesRequest


@dataclass(frozen=True, kw_only=True)
class SparsifyRequest(
    SparsityOptions,
    Cluster,
    Memory,
    Trust,
    Dtype,
    Device,
    SearchOptions,
    Texts,
    Players,
    Revision,
    Model,
):
    """Which model, how sparse, by what rule, on which texts.

    Args:
        model: Hugging Face id, local folder, or ``"reference"``, the model that ships inside.
        sparsity: Share of the weights of all linear maps that become zero.
        pattern: Or an N:M pattern, such as ``"2:4"``: N of every M weights stay, on average.
        allocation: How the target is shared out among layers.
        pruner: Which weights of a map go.
        contributions: Exact, by surrogate (an additive game fitted in Shapley's kernel), or by
            sliding windows; ``"auto"`` is exact for up to 10 layers, else by surrogate.
        window: Layers in a window.
        least: Least sparsity of a layer; ``most`` the most.
        pruning_sequences: Sequences of the calibration text that a pruner and OWL measure on, those
            of the game among them; None is 128, and ten tokens for every input of the widest map
            where Hessians are measured (at most 2,048 sequences).
        players: What has a sparsity of its own: ``"layer"``, or ``"sublayer"``.

    >>> SparsifyRequest("reference", sparsity=0.5, allocation="uniform").command()
    'coterie sparsify reference --sparsity 0.5 --allocation uniform'
    """

    VERB = "sparsify"
    HELP: ClassVar = {
        "device": SEVERAL_DEVICES,
        "sequences": "Calibration sequences that contributions are measured on; allocations are "
        "judged on these and further ones, 32 at least. Default: 10.",
        "budget": "Coalitions that contributions by `surrogate` are fitted to: at least 4 for "
        "every layer (or block) that is not locked, and 2. Default: 32 for each. `exact` and "
        "`window` ask what they must.",
        "lock": "Layers that no coalition leaves out and `mixed` never cuts, 0-based: 0,1,31. They "
        "are pruned all the same; where contributions decide, as the most important ones.",
        "state_memory": "Memory that the states of coalitions and allocations may take that are "
        "walked together: 500M, 8G. Default: half of what is free. What pruning takes is beside "
        "it: see --dry-run.",
        "dtype": "In which coalitions are observed and layers pruned and judged: auto, float32, "
        "bfloat16. The checkpoint keeps its own, and a weight no pruner changes all its bits.",
        "stream": "For a model larger than memory: its layers are read from disk, played, pruned "
        "and judged one after the other; with `uniform`, `owl`, `sv-nup` and `sv-nup-window`. Not "
        "for most mixtures of experts (Mixtral, Qwen MoE, DeepSeek): transformers merges their "
        "experts as it loads them.",
        "players": "What has a sparsity of its own: `layer`, or `sublayer` (attention and "
        "feed-forward block each).",
    }

    def check(self) -> None:
        """Refuse what can be refused before anything is loaded.

        Raises:
            UserError: one clear line about the first thing that is wrong.
        """
        self.opening().check()
        super().check()
        check_sparsity(self)
        check_rule(self)
        check_pruning_sequences(self)

    def opening(self) -> ValuesRequest:
        """The request that opens the game whose contributions decide."""
        own = {one.name for one in fields(SparsityOptions)}
        # Every field that does not speak of sparsity belongs to the game.
        shared = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in own}
        return ValuesRequest(**shared)

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
        # `check` has refused a request with neither of the two.
        assert self.sparsity is not None
        return self.sparsity

    def bounds(self) -> Bounds:
        """The least and the most sparsity of a layer; a pattern keeps one weight of a group."""
        # At least one of M weights stays, or the row would be zero: N = 0 is no pattern.
        m = self.group()
        return Bounds(self.least, self.most if m is None else min(self.most, 1 - 1 / m))

    def group(self) -> int | None:
        """M of the pattern, None without one."""
        return None if self.pattern is None else Pattern.parse(self.pattern).m

    def rule(self) -> Rule:
        """How the target is shared out."""
        return find_rule(self.allocation)

    def measuring(self) -> Measuring:
        """Where contributions come from."""
        return next(source for source in CONTRIBUTIONS if source == self.contributions)

    def as_json(self) -> dict[str, Json]:
        """The request as plain JSON: that of the game, and how sparse."""
        # The game's part first, in the words that records of `values` use.
        own = {one.name: getattr(self, one.name) for one in fields(SparsityOptions)}
        return {**self.opening().as_json(), **own}


def check_sparsity(asked: SparsifyRequest) -> None:
    """Refuse a sparsity that is not said, or that its bounds cannot meet.

    Raises:
        SparsityError: either of them.
    """
    if (asked.sparsity is None) == (asked.pattern is None):
        raise SparsityError("say how sparse: give either --sparsity 0.6 or --pattern 2:4")
    if not 1 <= asked.window <= WIDEST:
        raise SparsityError(f"--window {asked.window} must lie between 1 and {WIDEST} layers")
    if not asked.most < 1:
        raise SparsityError(
            f"--most {asked.most:g} must be below 1: a layer that is all zeros is better cut"
        )
    asked.bounds().check(asked.target())


def check_rule(asked: SparsifyRequest) -> None:
    """Refuse what a rule of allocation cannot do.

    Raises:
        SparsityError: one line that says what it can.
    """
    if asked.players not in ("layer", "sublayer"):
        raise SparsityError(
            f"--players {asked.players} cannot be sparsified by themselves: give layer or sublayer"
        )
    rule = asked.rule()
    # Judging again and again would read the whole model from disk each time.
    if asked.stream and not rule.streams:
        streamed = ", ".join(one.name for one in RULES.values() if one.streams)
        raise SparsityError(
            f"--allocation {asked.allocation} judges variants of the model again and again, which"
            f" --stream would read from disk each time: give {streamed}, or leave out"
            " --stream"
        )
    # A layer must not lose part of its blocks, and N:M leaves no room for cuts.
    if rule.cuts and (asked.pattern or asked.players != "layer"):
        raise SparsityError(
            f"--allocation {rule.name} cuts whole layers and leaves any share of zeros in the"
            " others: give --sparsity, and --players layer"
        )


def check_pruning_sequences(asked: SparsifyRequest) -> None:
    """Refuse sequences to measure on where there are none, or nothing is measured.

    Raises:
        SparsityError: either of them.
    """
    if asked.pruning_sequences is None:
        return
    if asked.pruning_sequences < 1:
        raise SparsityError(
            f"--pruning-sequences {asked.pruning_sequences} must be at least 1: a pruner"
            " measures on them"
        )
    # Better refused than ignored: the user expects the number to matter.
    if not asked.measures():
        raise SparsityError(
            f"--pruner {asked.pruner} looks at weights alone: leave out --pruning-sequences"
        )
