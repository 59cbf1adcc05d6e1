"""The rules by which one sparsity is shared out among layers: one file each, one table.

    rule = find_rule("owl")
    rule.cost(task)        what sharing out will ask of the model, for the dry run
    rule.allocate(task)    the sparsity of every unit

The table names them without importing any: a rule's file is loaded when it is used, so that help
texts and checks may read the table.
"""

from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from coterie.sparsity.bounds import SparsityError
from coterie.sparsity.levels import Need

if TYPE_CHECKING:
    from coterie.verbs.sparsify.rules._interface import Allocation, RuleTask, SharingCost


@dataclass(frozen=True)
class Rule:
    """One way to share a sparsity out among the layers.

    Attributes:
        name: What it is called on the command line.
        title: What it does, in a few words, for help texts.
        paper: Where it was published, an arXiv number; None where there is none.
        module: Its file in this folder, which has the functions `allocate` and `cost`.
        contributions: Whether it begins with what layers contribute.
        contributions_by: The one method they are measured by; None where the user chooses.
        needs: What it must itself know of the inputs of linear maps, whatever the pruner.
        keeps_variants: Whether it judges in several rounds, so that a pruned variant of a layer is
            used again and kept.
        streams: Whether a few passes over the layers suffice, so that they may come from disk.
        cuts: Whether it may cut whole layers too.
    """

    name: str
    title: str
    paper: str | None
    module: str
    contributions: bool = False
    contributions_by: str | None = None
    needs: Need = "nothing"
    keeps_variants: bool = False
    streams: bool = False
    cuts: bool = False

    def allocate(self, task: "RuleTask") -> "Allocation":
        """The sparsity of every unit, with the weighted mean that was asked for.

        Raises:
            UserError: the target cannot be met, or nothing tells the layers apart.
        """
        # The annotation gives mypy the type that an imported module cannot.
        found: Allocation = self._module().allocate(task)
        return found

    def cost(self, task: "RuleTask") -> "SharingCost | None":
        """What the rule asks of the model beyond contributions; None where it asks nothing."""
        found: SharingCost | None = self._module().cost(task)
        return found

    def _module(self) -> ModuleType:
        # Imported when used: rules need torch, help texts and checks do not.
        return import_module(f"{__name__}.{self.module}")


_ALL = (
    # From the plainest to those that ask most of the model.
    Rule("uniform", "every layer alike", None, "uniform", streams=True),
    Rule("owl", "by each layer's outliers", "2310.05175", "owl", needs="norms", streams=True),
    Rule("ecoflap", "by zeroth-order gradients", "2310.02998", "ecoflap"),
    Rule(
        "sv-nup",
        "by each layer's Shapley value",
        "2505.01731",
        "sv_nup",
        contributions=True,
        streams=True,
    ),
    Rule(
        "sv-nup-window",
        "by Shapley values in sliding windows",
        "2505.01731",
        "sv_nup",
        contributions=True,
        contributions_by="window",
        streams=True,
    ),
    Rule(
        "guided",
        "search from there",
        None,
        "guided",
        contributions=True,
        keeps_variants=True,
    ),
    Rule(
        "mixed",
        "cut whole layers too",
        None,
        "mixed",
        contributions=True,
        keeps_variants=True,
        cuts=True,
    ),
)

RULES: dict[str, Rule] = {rule.name: rule for rule in _ALL}
"""Every rule by its name."""


def find_rule(name: str) -> Rule:
    """The rule of this name.

    Raises:
        SparsityError: there is none; the message lists those there are.

    >>> find_rule("owl").paper
    '2310.05175'
    """
    if name not in RULES:
        raise SparsityError(f"--allocation {name} is unknown: there are {', '.join(RULES)}")
    return RULES[name]
