"""Tasks as games: what every choice of every item is worth to a coalition of layers; and mixes.

A sequence of a `TaskGame` is one answer to one item; what is observed is its log-likelihood, as
lm-evaluation-harness asks for it. Margins and accuracies are derived from these facts, so one
evaluation serves both. Coalitions run one at a time, other layers skipped.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Literal

import numpy as np

from coterie.game.coalitions import (
    Block,
    Coalitions,
    Indices,
    Matrix,
    Observations,
)
from coterie.game.utilities import floor_nll
from coterie.models.loaded.routing import routed
from coterie.models.loaded.stack import Stack
from coterie.scores.errors import TaskError
from coterie.scores.task_definitions import quiet_harness
from coterie.scores.tasks import TaskSettings, language_model, margin, right_choices, use_zero_shots

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from lm_eval.api.task import Task
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Measure = Literal["margin", "acc"]
"""Log-likelihood of the right choice less that of the best wrong one, or whether it is above 0."""


class TaskGame:
    """The game whose players are layers, observed on the answers to a task's items.

    Args:
        name: What the task is called.
        task: A task of choices, from `load_tasks`, or one with worked answers, whose only answer is
            the reference solution.
        model: The model that `stack` was found in.
        tokenizer: The model's.
        stack: The players.
        settings: Which items are asked, and how.

    Attributes:
        items: For each item, which sequences are its answers.
        right: For each item, which of these answers are right.
        chooses: Whether items have wrong answers, so that there are margins and accuracies.

    Raises:
        TaskError: a task whose items are neither choices nor worked answers.
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
        kind = task.get_config("output_type")
        # A margin needs a wrong choice to compare with.
        if kind not in ("multiple_choice", "generate_until"):
            raise TaskError(f"task '{name}' has no choices, so it has no margin: take one that has")
        self.chooses = kind == "multiple_choice"
        self.name, self.model, self.stack = name, model, stack
        use_zero_shots(task)
        with quiet_harness():
            task.build_all_requests(limit=settings.limit, rank=0, world_size=1)
        # The harness may order its requests otherwise: here items come in order, answers within.
        asked = sorted(task.instances, key=lambda one: (one.doc_id, one.idx))
        asked = [one for one in asked if one.doc_id >= settings.first]
        if not self.chooses:
            asked = [_solution(task, one) for one in asked]
        self._instances = asked
        documents = np.array([one.doc_id for one in asked])
        self.items = [np.flatnonzero(documents == item) for item in np.unique(documents)]
        self.right = [
            right_choices(task, asked[its[0]].doc) if self.chooses else [0] for its in self.items
        ]
        self._lm, _ = language_model(model, tokenizer, settings)
        # What a solution of so many tokens loses at worst; characters are more than tokens.
        self._lengths = np.array([len(str(one.args[1])) for one in asked], dtype=np.float64)
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

        Of a worked answer the log-likelihood stands for the margin, and there is no accuracy.

        An answer without a finite likelihood makes its item as wrong as can be: no row is dropped.
        """
        worst = -floor_nll(self.vocabulary)
        if not self.chooses:
            return np.where(np.isfinite(seen.nll), -seen.nll, worst * self._lengths)
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


def _solution(task: "Task", asked: "Instance") -> "Instance":
    """A question of a task of worked answers, put as: how likely is the reference solution."""
    from lm_eval.api.instance import Instance

    solution = str(task.doc_to_target(asked.doc)).strip()  # type: ignore[attr-defined]
    return Instance(
        request_type="loglikelihood",
        doc=asked.doc,
        arguments=(str(asked.args[0]), f" {solution}"),
        idx=0,
        metadata=(task.config.task, asked.doc_id, 1),  # type: ignore[attr-defined]
    )


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
