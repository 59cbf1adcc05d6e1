"""Tasks as games: what every choice of every item is worth to a coalition of layers; and mixes.

A sequence of a `TaskGame` is one answer to one item; what is observed is its log-likelihood, as
lm-evaluation-harness asks for it. Margins and accuracies are derived from these facts, so one
evaluation serves both. Coalitions run one at a time, other layers skipped.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Literal

import numpy as np

from coterie.game.coalitions import (
    Block,
    Coalitions,
    Game,
    Indices,
    Matrix,
    Observations,
    Vector,
    observe_all,
)
from coterie.game.utilities import floor_nll
from coterie.models.loaded.routing import routed
from coterie.models.loaded.stack import Stack
from coterie.scores.task_definitions import TaskError, quiet_harness
from coterie.scores.tasks import TaskSettings, language_model, margin, right_choices, use_zero_shots

if TYPE_CHECKING:
    from lm_eval.api.task import Task
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Measure = Literal["margin", "acc"]
"""Log-likelihood of the right choice less that of the best wrong one, or whether it is above 0."""


class TaskGame:
    """The game whose players are layers, observed on the answers to a task's items.

    Args:
        name: What the task is called.
        task: A task of choices, from `load_tasks`.
        model: The model that `stack` was found in.
        tokenizer: The model's.
        stack: The players.
        settings: Which items are asked, and how.

    Attributes:
        items: For each item, which sequences are its answers.
        right: For each item, which of these answers are right.

    Raises:
        TaskError: a task whose items are not choices.
    """

    def __init__(
        self,
        name: str,
        task: "Task",
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        stack: Stack,
        *,
        settings: TaskSettings,
    ) -> None:
        # A margin needs a wrong choice to compare with.
        if task.get_config("output_type") != "multiple_choice":
            raise TaskError(f"task '{name}' has no choices, so it has no margin: take one that has")
        self.name, self.model, self.stack = name, model, stack
        use_zero_shots(task)
        with quiet_harness():
            task.build_all_requests(limit=settings.limit, rank=0, world_size=1)
        # The harness may order its requests otherwise: here items come in order, answers within.
        asked = sorted(task.instances, key=lambda one: (one.doc_id, one.idx))
        self._instances = asked
        documents = np.array([one.doc_id for one in asked])
        self.items = [np.flatnonzero(documents == item) for item in np.unique(documents)]
        self.right = [right_choices(task, asked[its[0]].doc) for its in self.items]
        self._lm, _ = language_model(model, tokenizer, settings)
        self.vocabulary = int(model.config.get_text_config(decoder=True).vocab_size)

    @property
    def n_players(self) -> int:
        """Number of players, locked or not."""
        return self.stack.n_players

    @property
    def n_sequences(self) -> int:
        """Number of answers to all items."""
        return len(self._instances)

    def observe(self, coalitions: Coalitions, sequences: Indices) -> Iterator[Block]:
        """Yield one block a coalition: ``nll`` is minus the log-likelihood of the whole answer."""
        asked = [self._instances[sequence] for sequence in sequences]
        if not asked:
            return
        for row, coalition in enumerate(coalitions):
            began = perf_counter()
            others_skipped = routed(self.model, self.stack, coalition.tolist())
            with _no_cache(self.model), quiet_harness(), others_skipped:
                answers = self._lm.loglikelihood(asked, disable_tqdm=True)
            # One row: a coalition at a time, for a routed model is one model.
            nll = np.array([[-likelihood for likelihood, _ in answers]])
            likeliest = np.array([[float(greedy) for _, greedy in answers]])
            seen = Observations(nll, np.full(nll.shape, np.nan), likeliest)
            yield Block(np.array([row]), np.arange(len(asked)), seen, perf_counter() - began)

    def scores(self, seen: Observations, measure: Measure) -> Matrix:
        """Margin or accuracy of every item, ``(n_coalitions, n_items)``.

        An answer without a finite likelihood makes its item as wrong as can be: no row is dropped.
        """
        worst = -floor_nll(self.vocabulary)
        table = np.array(
            [
                [
                    margin(-row[its], right)
                    for its, right in zip(self.items, self.right, strict=True)
                ]
                for row in seen.nll
            ]
        )
        # The floor of a loss, with its sign turned: the worst a margin can be.
        table = np.where(np.isfinite(table), table, worst)
        return table if measure == "margin" else (table > 0).astype(np.float64)


@dataclass(frozen=True, eq=False)
class WeightedUtility:
    """One utility of a mix.

    Attributes:
        scores: From what the game observed to a table ``(n_coalitions, n_units)``; higher is
            better. A unit is an item of a task, or a sequence of text.
        clusters: ``(n_units,)``: standard errors treat the units of one cluster as one observation.
        measure: What is scored, in words.
    """

    name: str
    weight: float
    game: Game
    scores: Callable[[Observations], Matrix]
    clusters: Indices
    measure: str


@dataclass(frozen=True, eq=False)
class Scaled:
    """A part, with what it is measured in.

    Attributes:
        full: Score of every unit under the full model, ``(n_units,)``.
        scale: Mean absolute change of the part's value when one single player is skipped.
    """

    part: WeightedUtility
    full: Vector
    scale: float

    @classmethod
    def of(cls, part: WeightedUtility, players: Indices) -> "Scaled":
        """Observe the full model and the skips of single players.

        Raises:
            TaskError: no skip of a single player changes anything, so there is no scale.
        """
        # Row 0 keeps every player; row i + 1 skips the i-th.
        coalitions = np.ones((1 + len(players), part.game.n_players), dtype=bool)
        coalitions[1 + np.arange(len(players)), players] = False
        table = part.scores(observe_all(part.game, coalitions))
        changes = np.abs(table[1:].mean(axis=1) - table[0].mean())
        scale = float(changes.mean())
        if not scale > 0:
            raise TaskError(
                f"'{part.name}' ({part.measure}) is the same whichever single layer is skipped, so "
                "it has no weight: give more --task-items, or measure its margin"
            )
        return cls(part, table[0], scale)


class MixedGame:
    """A weighted sum of utilities as one game, each measured in what one average player changes.

    The loss of a coalition S is Σ_u w_u (v_u(N) − v_u(S)) / s_u, where s_u is the mean of
    |v_u(N) − v_u(N∖{i})| over the players: 0 for the full model, about 1 where an average player
    is gone. Its sequences are the units of all parts, weighted so that their mean is that sum; the
    loss of each stands in ``nll``, the other observations are NaN.

    Attributes:
        not_finite: Likelihoods and losses that were not finite when they were asked for; each
            part reads them as the worst there is.
    """

    def __init__(self, parts: Sequence[Scaled]) -> None:
        self.parts, self.not_finite = list(parts), 0
        counts = [len(scaled.full) for scaled in self.parts]
        self.starts = np.concatenate([[0], np.cumsum(counts)])
        clusters, offset = [], 0
        for scaled in self.parts:
            # Clusters of different parts are different, so their numbers are moved apart.
            clusters.append(scaled.part.clusters + offset)
            offset += int(scaled.part.clusters.max()) + 1
        self.clusters: Indices = np.concatenate(clusters)

    @property
    def n_players(self) -> int:
        """Number of players, the same in every part."""
        return self.parts[0].part.game.n_players

    @property
    def n_sequences(self) -> int:
        """Number of units of all parts."""
        return int(self.starts[-1])

    def observe(self, coalitions: Coalitions, sequences: Indices) -> Iterator[Block]:
        """Yield one block a part, with the seconds it took when it was observed, now or before."""
        total = sum(scaled.part.weight for scaled in self.parts)
        for place, scaled in enumerate(self.parts):
            start, stop = self.starts[place], self.starts[place + 1]
            columns = np.flatnonzero((sequences >= start) & (sequences < stop))
            if not len(columns) or not len(coalitions):
                continue
            # Scores of an item need all its answers, so a part is always observed whole.
            everything = np.arange(scaled.part.game.n_sequences)
            table, seconds = Observations.empty(len(coalitions), len(everything)), 0.0
            for told in scaled.part.game.observe(coalitions, everything):
                table.put(told)
                seconds += told.seconds
            self.not_finite += int((~np.isfinite(table.nll)).sum())
            scores = scaled.part.scores(table)
            # Scaled so that the plain mean over all units is the weighted sum over the parts.
            share = scaled.part.weight / total * self.n_sequences / len(scaled.full)
            loss = share * (scaled.full - scores) / scaled.scale
            seen = np.full((len(coalitions), len(columns)), np.nan)
            units = sequences[columns] - start
            block = Observations(loss[:, units], seen, seen)
            rows = np.arange(len(coalitions))
            yield Block(rows, columns, block, seconds)


@contextmanager
def _no_cache(model: "PreTrainedModel") -> Iterator[None]:
    """A cache counts positions on the first layer, which may be skipped."""
    configs = {id(c): c for c in (model.config, model.config.get_text_config(decoder=True))}
    before = {key: getattr(config, "use_cache", None) for key, config in configs.items()}
    try:
        for config in configs.values():
            config.use_cache = False
        yield
    finally:
        for key, config in configs.items():
            config.use_cache = before[key]
