"""The modes of healing: what of the cut model learns. One table, which loads no torch by itself."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from coterie.healing.students import Adapted, Rewritten, Student
    from coterie.models.loaded.stack import Stack


@dataclass(frozen=True)
class HealMode(ABC):
    """One way to learn.

    Attributes:
        name: What it is called on the command line.
        title: What it trains, in a few words, for help texts.
        paper: Where it was published, an arXiv number, if it was.
        learning_rate: Its peak, measured on the reference model; wider models take less.
        package: What must be installed for it, if anything.
        adapters: Whether adapters learn, and no weight of the model moves until they are merged.
            Weights that move by small steps themselves need float32.
    """

    name: str
    title: str
    paper: str | None
    learning_rate: float
    package: str | None
    adapters: bool

    @abstractmethod
    def beside(
        self,
        model: "PreTrainedModel",
        stack: "Stack",
        kept: Sequence[int],
        rank: int,
        seed: int,
        repaired: "Mapping[str, Tensor] | None" = None,
    ) -> "Rewritten | Adapted":
        """The kept layers of a full model, which stays beside them as it was and teaches.

        Args:
            model: The full model.
            stack: Its layers.
            kept: The players the student keeps.
            rank: Rank of the adapters, where the mode has any.
            seed: Decides how the adapters begin.
            repaired: Weights the student begins with instead of the full model's.
        """

    @abstractmethod
    def alone(self, model: "PreTrainedModel", stack: "Stack", rank: int, seed: int) -> "Student":
        """A cut model by itself, all of whose layers are kept.

        Args:
            model: The cut model.
            stack: Its layers.
            rank: Rank of the adapters, where the mode has any.
            seed: Decides how the adapters begin.
        """


# Each mode imports its student when it is asked for: help texts list modes without torch.
class _Lora(HealMode):
    def beside(
        self,
        model: "PreTrainedModel",
        stack: "Stack",
        kept: Sequence[int],
        rank: int,
        seed: int,
        repaired: "Mapping[str, Tensor] | None" = None,
    ) -> "Adapted":
        from coterie.healing.students import Adapted

        return Adapted(model, stack, kept, rank=rank, seed=seed, repaired=repaired or {})

    def alone(self, model: "PreTrainedModel", stack: "Stack", rank: int, seed: int) -> "Adapted":
        # A cut model is a full one all of whose layers are kept.
        return self.beside(model, stack, range(stack.n_players), rank, seed)


class _Full(HealMode):
    def beside(
        self,
        model: "PreTrainedModel",
        stack: "Stack",
        kept: Sequence[int],
        rank: int,
        seed: int,
        repaired: "Mapping[str, Tensor] | None" = None,
    ) -> "Rewritten":
        from coterie.healing.students import Rewritten

        # Rank and seed are for adapters: all weights begin as those of the model.
        return Rewritten(model, stack, kept, repaired or {})

    def alone(self, model: "PreTrainedModel", stack: "Stack", rank: int, seed: int) -> "Student":
        from coterie.healing.students import Plain

        return Plain(model, stack)


_ALL = (
    # The rates are measured on the reference model; a wider one takes less, see `heal`.
    _Lora("lora", "adapters, merged at the end", "2106.09685", 2e-3, "peft", adapters=True),
    _Full("full", "all kept weights", None, 5e-4, None, adapters=False),
)

MODES: dict[str, HealMode] = {mode.name: mode for mode in _ALL}
"""Every mode by its name; the first is the default.

>>> list(MODES)
['lora', 'full']
"""
