"""The published methods we compare with, one file each, behind one interface.

    outcome = RIVALS["shortgpt"].play(task)
    outcome.chosen[3]       the coalition, or the way to write a checkpoint, 3 layers removed
    outcome.cost            layer-tokens, head-tokens, backward tokens, seconds

The table below names them without importing any: a rival's module is loaded when it plays.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coterie.game.search.layers_run import Work
    from coterie.rivals.interface import Chosen, Outcome, Task


@dataclass(frozen=True)
class Rival:
    """One published method.

    Attributes:
        name: What it is called on the command line.
        title: What it is called in a table.
        paper: Where it was published, an arXiv number or a DOI; None for a yardstick.
        kind: Whether it selects layers or rewrites weights.
        module: Its file in this folder.
        chancy: Whether its answer depends on the seed even where the texts do not.
        rule: Which of the rules of its file.
        work: About how many layers it runs on a text: a name of `coterie.game.search.layers_run`.
    """

    name: str
    title: str
    paper: str | None
    kind: Literal["selection", "rewrite"]
    module: str
    chancy: bool = False
    rule: str = "choose"
    work: str = "few"

    def layers(self, n_layers: int, keeps: "Sequence[int]") -> float:
        """About how many layers it runs on every text, to plan by.

        Args:
            n_layers: Layers of the model.
            keeps: Layers that stay, of every size that is asked for.
        """
        work: Work = getattr(import_module("coterie.game.search.layers_run"), self.work)
        return work(n_layers, keeps)

    def play(self, task: "Task") -> "Outcome":
        """Run the method.

        Raises:
            DoesNotApply: It cannot be used on this model; one line says why.
        """
        # Loaded only now: rivals import numpy and torch, and a help text needs none of them.
        from coterie.rivals.interface import Meter, Outcome

        meter = Meter(task)
        choose = getattr(import_module(f"{__name__}.{self.module}"), self.rule)
        chosen: Chosen = choose(task, meter)
        return Outcome(chosen, meter.cost(), tuple(meter.remarks))


_ALL = (
    # Yardsticks: chance, and the best selection there is on the calibration texts.
    Rival("random", "random", None, "selection", "random", chancy=True),
    Rival("exhaustive", "exhaustive", None, "selection", "exhaustive", work="every"),
    # Published methods. A rewrite changes weights, so it answers with a checkpoint.
    Rival("shortgpt", "ShortGPT", "2403.03853", "selection", "shortgpt"),
    Rival(
        "shortened-ppl",
        "Shortened-LLaMA, PPL",
        "2402.02834",
        "selection",
        "shortened",
        rule="by_perplexity",
        work="one_by_one",
    ),
    Rival(
        "shortened-taylor",
        "Shortened-LLaMA, Taylor+",
        "2402.02834",
        "selection",
        "shortened",
        rule="by_taylor",
    ),
    Rival(
        "shortened-magnitude",
        "Shortened-LLaMA, magnitude+",
        "2402.02834",
        "selection",
        "shortened",
        rule="by_magnitude",
    ),
    Rival("sleb", "SLEB", "2402.09025", "selection", "sleb", work="one_descent"),
    Rival("angular", "angular distance", "2403.17887", "selection", "angular"),
    Rival(
        "evopress", "EvoPress", "2410.14649", "selection", "evopress", chancy=True, work="evolution"
    ),
    Rival("clp", "CLP", "2510.23652", "selection", "clp"),
    Rival("entropy", "entropy of blocks", "2504.03794", "selection", "entropy"),
    # Formula and released code of LaCo differ, so each is a rival of its own.
    Rival("laco", "LaCo", "2402.11187", "rewrite", "laco", work="one_descent"),
    Rival(
        "laco-released",
        "LaCo, released code",
        "2402.11187",
        "rewrite",
        "laco",
        rule="as_released",
        work="one_descent",
    ),
    Rival("replace", "ReplaceMe", "2505.02819", "rewrite", "replace"),
    Rival("blockpruner", "BlockPruner", "2406.10594", "selection", "blockpruner", work="blocks"),
    Rival("gtap", "GTAP", "2311.10468", "selection", "gtap", chancy=True, work="draws"),
    Rival("slicegpt", "SliceGPT", "2401.15024", "rewrite", "slicegpt"),
)

RIVALS: dict[str, Rival] = {rival.name: rival for rival in _ALL}
"""Every rival by its name. `paper` and `guided` are not rivals: the pipeline plays them."""
