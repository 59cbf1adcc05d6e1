"""The modes of healing: what of the cut model learns. One table, which loads no torch by itself."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from coterie.healing.moved import Rewritten, Trains
    from coterie.healing.students import Adapted, Student
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
    layers: int = 3
    """How many of the last kept layers learn, where the mode trains these."""

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
    def alone(
        self, model: "PreTrainedModel", stack: "Stack", kept: Sequence[int], rank: int, seed: int
    ) -> "Student":
        """A cut model by itself, all of whose layers are kept.

        Args:
            model: The cut model.
            stack: Its layers.
            kept: The players of the full model that it consists of.
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

    def alone(
        self, model: "PreTrainedModel", stack: "Stack", kept: Sequence[int], rank: int, seed: int
    ) -> "Adapted":
        # A cut model is a full one all of whose layers are kept.
        return self.beside(model, stack, range(stack.n_players), rank, seed)


class _Weights(HealMode):
    """Weights themselves are trained: all of them, or those of some layers."""

    @abstractmethod
    def trains(self, model: "PreTrainedModel", path: str, kept: Sequence[int]) -> "Trains":
        """Which parameters are trained.

        Args:
            model: The model whose parameters are named.
            path: Of its stack.
            kept: The players of the full model that stay, or their places in a cut one.
        """

    def beside(
        self,
        model: "PreTrainedModel",
        stack: "Stack",
        kept: Sequence[int],
        rank: int,
        seed: int,
        repaired: "Mapping[str, Tensor] | None" = None,
    ) -> "Rewritten":
        from coterie.healing.moved import Rewritten

        # Rank and seed are for adapters: weights begin as those of the model.
        trains = self.trains(model, stack.path, self.layers_of(kept, kept))
        return Rewritten(model, stack, kept, repaired or {}, trains)

    def alone(
        self, model: "PreTrainedModel", stack: "Stack", kept: Sequence[int], rank: int, seed: int
    ) -> "Student":
        from coterie.healing.moved import Plain

        names = range(stack.n_players)
        return Plain(model, stack, self.trains(model, stack.path, self.layers_of(kept, names)))

    def layers_of(self, kept: Sequence[int], names: Sequence[int]) -> list[int]:
        """The layers that are trained.

        Args:
            kept: Players of the full model that stay.
            names: What these are called in the model at hand.
        """
        return list(names)


class _Full(_Weights):
    def trains(self, model: "PreTrainedModel", path: str, kept: Sequence[int]) -> "Trains":
        return lambda _: True


class _Last(_Weights):
    """The last kept layers, the norm behind them, and the head."""

    def layers_of(self, kept: Sequence[int], names: Sequence[int]) -> list[int]:
        return list(names)[-self.layers :]

    def trains(self, model: "PreTrainedModel", path: str, kept: Sequence[int]) -> "Trains":
        found = model.get_output_embeddings()
        # A tied head has the name of the embedding; what it learns, the embedding learns too.
        head = set() if found is None else {id(one) for one in found.parameters()}
        outside = {
            name
            for name, one in model.named_parameters()
            if not name.startswith(f"{path}.") and (id(one) in head or _is_norm(name))
        }
        own = tuple(f"{path}.{layer}." for layer in kept)
        return lambda name: name in outside or name.startswith(own)


class _Gaps(_Weights):
    """The kept layers before and after each gap."""

    def layers_of(self, kept: Sequence[int], names: Sequence[int]) -> list[int]:
        # The last layers may be gone too, which is not seen from here: the last kept one learns.
        around = {len(kept) - 1}
        for place, player in enumerate(kept):
            before = kept[place - 1] if place else -1
            if player - before > 1:
                around |= {place, max(0, place - 1)}
        return [names[place] for place in sorted(around)]

    def trains(self, model: "PreTrainedModel", path: str, kept: Sequence[int]) -> "Trains":
        own = tuple(f"{path}.{layer}." for layer in kept)
        return lambda name: name.startswith(own)


def _is_norm(name: str) -> bool:
    return "norm" in name or "ln_f" in name or "layernorm" in name.lower()


_ALL = (
    # The rates are measured on the reference model; a wider one takes less, see `heal`.
    _Lora("lora", "adapters, merged at the end", "2106.09685", 2e-3, "peft", adapters=True),
    _Full("full", "all kept weights", None, 5e-4, None, adapters=False),
    _Last("last", "the last kept layers and the head", "2411.15558", 5e-4, None, adapters=False),
    _Gaps("gaps", "the layers around each gap", None, 5e-4, None, adapters=False),
)

MODES: dict[str, HealMode] = {mode.name: mode for mode in _ALL}
"""Every mode by its name; the first is the default.

>>> list(MODES)
['lora', 'full', 'last', 'gaps']
"""
