"""A loss that is watched while a student learns: on texts unlike those it learns from.

Learning stops where it gets worse twice in a row, and what had the lowest loss is what counts.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from coterie.healing.checkpoint import LearningState
from coterie.healing.students import Student
from coterie.scores.sequence_losses import floored_losses
from coterie.texts.sets import Tokens

CHECKS = 10
"""Times that it is measured in a whole run, beside the first."""

PATIENCE = 2
"""Times in a row that it may be above the lowest before learning stops."""


@dataclass(eq=False)
class WatchedTexts:
    """The texts, and the weights that had the lowest loss on them so far.

    Attributes:
        tokens: Sequences unlike those that are learned from, ``(n_sequences, length)``.
        best: The weights, by name, on the CPU; empty before the first measure.
    """

    tokens: Tokens
    best: dict[str, Tensor] = field(default_factory=dict)

    def look(self, student: Student, state: LearningState) -> None:
        """Measure, where it is time to; shorten the run where it only gets worse.

        Args:
            student: As it is now.
            state: How far learning has come; what was measured is noted in it.
        """
        every = max(1, state.steps // CHECKS)
        last = state.step == state.steps
        if state.step % every and not last:
            return
        if state.watched and state.watched[-1][0] == state.step:
            return  # measured before the run was stopped
        with student.alone():
            losses, _ = floored_losses(student.model, self.tokens, predict=student.predict)
        watched = (*state.watched, (state.step, float(losses.mean())))
        lowest = min(loss for _, loss in watched)
        if watched[-1][1] == lowest:
            self.best = {n: one.detach().cpu().clone() for n, one in student.trained.items()}
        elif all(loss > lowest for _, loss in watched[-PATIENCE:]):
            # The learning rate has not fallen to zero, but what follows would only be worse.
            state.steps = state.step
        # Noted last: whoever is stopped while the weights are copied measures again.
        state.watched = watched

    def give_back(self, trained: dict[str, nn.Parameter]) -> None:
        """Put the weights in place that had the lowest loss."""
        with torch.no_grad():
            for name, value in self.best.items():
                trained[name].copy_(value)
