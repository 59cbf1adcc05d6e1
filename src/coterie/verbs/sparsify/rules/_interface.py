"""What a rule is given, what it returns, and what it will ask of the model, known beforehand."""

from dataclasses import dataclass, field

import numpy as np
import torch

from coterie.engine.parts.layers import LayerWeights
from coterie.game.coalitions import Coalition, Vector
from coterie.models.loaded.stack import Stack, find_stack
from coterie.plain import Json
from coterie.sparsity.bounds import Bounds
from coterie.sparsity.calibration import PruningTask
from coterie.sparsity.levels import Pruner
from coterie.sparsity.units import Units, find_units
from coterie.sparsity.variant_game import JudgedModel
from coterie.texts.sets import TextSet
from coterie.verbs.shared.progress import Progress
from coterie.verbs.shared.workspace import Workspace
from coterie.verbs.sparsify.contributions import Measured
from coterie.verbs.sparsify.request import SparsifyRequest


@dataclass(eq=False)
class Allocation:
    """Sparsities of all units, and how they came about.

    Attributes:
        sparsity: ``(n_units,)``; 1 where a layer is cut.
        kept: Layers that stay.
        measured: What layers contribute, where the rule begins with that.
        findings: What was tried and what it gave, for the record.
    """

    sparsity: Vector
    kept: Coalition
    measured: Measured | None = None
    findings: dict[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class SharingCost:
    """What a rule will ask of the model beyond contributions.

    Attributes:
        what: In words.
        candidates: Variants of the whole model judged at most, each weighted with its share of
            the texts.
        judged: The texts that a candidate is judged on.
        walks: Times that the texts for pruning go through the unpruned layers to be measured.
    """

    what: str
    candidates: float
    judged: TextSet
    walks: int = 0


@dataclass(frozen=True, eq=False)
class RuleTask:
    """What every rule is given: an opened model, and how sparse it should become."""

    workspace: Workspace
    request: SparsifyRequest
    progress: Progress
    stack: Stack
    units: Units

    @classmethod
    def of(cls, workspace: Workspace, request: SparsifyRequest, progress: Progress) -> "RuleTask":
        """The layers and the units of an opened model.

        Args:
            workspace: The model and its texts.
            request: How sparse, and by which rule.
            progress: Shows what is being done.
        """
        # The workspace may play blocks; pruning always goes through whole layers.
        stack = find_stack(workspace.model)
        players = workspace.stack.players
        units = find_units(workspace.model, stack, players, request.group())
        return cls(workspace, request, progress, stack, units)

    @property
    def target(self) -> float:
        """Share of all weights that become zero."""
        return self.request.target()

    @property
    def bounds(self) -> Bounds:
        """The least and the most sparsity of a unit."""
        return self.request.bounds()

    @property
    def everyone(self) -> Coalition:
        """The coalition of all layers."""
        # Layers of the model, whatever the players of the game are.
        return np.ones(self.stack.n_players, dtype=bool)

    @property
    def n_free(self) -> int:
        """Players that may be cut."""
        return self.workspace.stack.n_players - len(self.workspace.locked)

    def pruning(self, pruner: Pruner) -> PruningTask:
        """The model and the texts for pruning, with this pruner."""
        # More texts than the game is played on: see `coterie.verbs.sparsify.texts`.
        tokens = torch.from_numpy(self.workspace.prepared.measured.tokens)
        return PruningTask(self.workspace.model, self.stack, tokens, pruner, self._weights)

    def judged(self, texts: TextSet) -> JudgedModel:
        """The model and the texts that variants of it are judged on."""
        return JudgedModel(
            model=self.workspace.model,
            stack=self.stack,
            tokens=torch.from_numpy(texts.tokens),
            shape=self.workspace.calibration.engine.shape,
            state_memory=self.workspace.request.state_memory,
            batches=self.workspace.batches,
        )

    @property
    def _weights(self) -> LayerWeights | None:
        """What brings the weights of a layer in; None where they are in memory."""
        batches = self.workspace.batches
        # A model in memory has its weights in place and needs no loader.
        return None if batches is None else batches.layers.weights
