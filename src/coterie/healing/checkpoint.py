"""What has been learned so far, in a file, so that a healing that is stopped goes on from there."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from coterie.errors import ModelError, StudyMismatch
from coterie.healing.origin import HealError
from coterie.models.files.tensors import read_header, read_tensors
from coterie.plain import Json

NOTHING: Mapping[str, Tensor] = {}
"""Where no texts are watched."""

_MOMENTS = ("exp_avg", "exp_avg_sq")
_STEPS = "step"
"""What Adam keeps of a weight, and how many gradients it has had: an expert may miss a batch."""


@dataclass
class LearningState:
    """How far learning has come.

    Attributes:
        steps: Steps in all, as far as is known.
        step: Steps done.
        seconds: Spent learning, over all runs.
        losses: KL of every step, nats per token.
        text: Cross-entropy of the text at every step, nats per token.
        states: Distance of the states after the gaps at every step; 0 where it has no weight.
        rate: The learning rate that a sweep chose; None without one.
        tried: Every rate of the sweep with its loss.
        watched: Steps and the loss then on the texts that are watched.
    """

    steps: int
    step: int = 0
    seconds: float = 0.0
    losses: tuple[float, ...] = ()
    text: tuple[float, ...] = ()
    states: tuple[float, ...] = ()
    rate: float | None = None
    tried: tuple[tuple[float, float], ...] = ()
    watched: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Checkpoint:
    """A file for what has been learned so far, and whose it is.

    Attributes:
        path: The file; it need not exist.
        identity: What decides the outcome; a file made under another is refused.
    """

    path: Path
    identity: Mapping[str, Json]

    def check(self) -> None:
        """Refuse a half-way state that was made under other settings.

        Raises:
            HealError: the file was cut off, or is something else.
            StudyMismatch: names the first setting that differs.
        """
        if not self.path.is_file():
            return
        before = json.loads(self._notes()["identity"])
        # Through JSON and back: a tuple of the settings is a list in the file.
        now = json.loads(json.dumps(self.identity))
        for name in sorted(before.keys() | now.keys()):
            if before.get(name) != now.get(name):
                raise StudyMismatch(
                    f"a healing for this output was begun with {name} = {before.get(name)}, not"
                    f" {now.get(name)}: ask for the same to go on, name another --output, or delete"
                    f" {self.path.name}"
                )

    def _notes(self) -> Mapping[str, str]:
        """What the file says of itself."""
        try:
            notes = read_header(self.path).metadata
        except ModelError as error:
            raise HealError(
                f"{self.path.name}, the half-way state of an earlier healing, was cut off or"
                " changed: delete it, and healing begins anew"
            ) from error
        if not {"identity", "state"} <= notes.keys():
            raise HealError(
                f"{self.path.name} is not the half-way state of a healing: move it away, or name"
                " another --output"
            )
        return notes

    def save(
        self,
        trained: Mapping[str, torch.nn.Parameter],
        optimizer: torch.optim.Optimizer,
        state: LearningState,
        best: Mapping[str, Tensor] = NOTHING,
    ) -> None:
        """Write the file anew; until it is whole the old one stays.

        Args:
            trained: What learns, by name.
            optimizer: The optimizer that trains them.
            state: How far learning has come.
            best: The weights that had the lowest loss on texts that are watched.
        """
        tensors = {name: one.detach().cpu().contiguous() for name, one in trained.items()}
        for name, one in trained.items():
            # Adam's moments too: without them the run would not go on as if it had never stopped.
            moments = optimizer.state.get(one, {})
            kept = (key for key in (*_MOMENTS, _STEPS) if key in moments)
            tensors |= {f"{name}|{key}": moments[key].cpu() for key in kept}
        tensors |= {f"{name}|best": one for name, one in best.items()}
        metadata = {"identity": json.dumps(self.identity), "state": json.dumps(vars(state))}
        # Renamed when whole: a run that is killed while it saves loses only this save.
        partial = self.path.with_suffix(".partial")
        save_file(tensors, partial, metadata)
        partial.replace(self.path)

    def load(
        self, trained: Mapping[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer
    ) -> LearningState | None:
        """Put what has been learned back in place; None where there is no file.

        Raises:
            StudyMismatch: the file belongs to other settings.
        """
        if not self.path.is_file():
            return None
        self.check()
        state = LearningState(**json.loads(self._notes()["state"]))
        state.losses, state.text = tuple(state.losses), tuple(state.text)
        state.states = tuple(state.states)
        state.tried = tuple((rate, loss) for rate, loss in state.tried)
        state.watched = tuple((step, loss) for step, loss in state.watched)
        tensors = read_tensors(self.path)
        for name, one in trained.items():
            with torch.no_grad():
                # In place: the model holds these very parameters.
                one.copy_(tensors[name])
            # AdamW makes a state at its first gradient; a weight that had one gets it back here.
            moments = {
                key: tensors[f"{name}|{key}"].to(one)
                for key in _MOMENTS
                if f"{name}|{key}" in tensors
            }
            if moments:
                steps = tensors.get(f"{name}|{_STEPS}", torch.tensor(float(state.step)))
                optimizer.state[one] = {_STEPS: steps, **moments}
        return state

    def best(self) -> dict[str, Tensor]:
        """The weights that had the lowest loss on the texts that are watched; none without any."""
        if not self.path.is_file():
            return {}
        tensors = read_tensors(self.path)
        end = "|best"
        return {name.removesuffix(end): tensors[name] for name in tensors if name.endswith(end)}
