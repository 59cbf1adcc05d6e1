"""What has been learned so far, in a file, so that a healing that is stopped goes on from there."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from coterie.errors import StudyMismatch
from coterie.plain import Json

_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass
class LearningState:
    """How far learning has come.

    Attributes:
        steps: Steps in all, as far as is known.
        step: Steps done.
        seconds: Spent learning, over all runs.
        losses: KL of every step, nats per token.
    """

    steps: int
    step: int = 0
    seconds: float = 0.0
    losses: tuple[float, ...] = ()


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
            StudyMismatch: names the first setting that differs.
        """
        if not self.path.is_file():
            return
        with safe_open(self.path, framework="pt") as file:
            before = json.loads(file.metadata()["identity"])
        now = json.loads(json.dumps(self.identity))
        for name in sorted(before.keys() | now.keys()):
            if before.get(name) != now.get(name):
                raise StudyMismatch(
                    f"a healing for this output was begun with {name} = {before.get(name)}, not"
                    f" {now.get(name)}: ask for the same to go on, name another --output, or delete"
                    f" {self.path.name}"
                )

    def save(
        self,
        trained: Mapping[str, torch.nn.Parameter],
        optimizer: torch.optim.Optimizer,
        state: LearningState,
    ) -> None:
        """Write the file anew; until it is whole the old one stays.

        Args:
            trained: What learns, by name.
            optimizer: Of these.
            state: How far it has come.
        """
        tensors = {name: one.detach().cpu().contiguous() for name, one in trained.items()}
        for name, one in trained.items():
            moments = optimizer.state.get(one, {})
            tensors |= {f"{name}|{key}": moments[key].cpu() for key in _MOMENTS if key in moments}
        metadata = {"identity": json.dumps(self.identity), "state": json.dumps(vars(state))}
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
        with safe_open(self.path, framework="pt") as file:
            state = LearningState(**json.loads(file.metadata()["state"]))
        state.losses = tuple(state.losses)
        tensors = load_file(self.path)
        for name, one in trained.items():
            with torch.no_grad():
                one.copy_(tensors[name])
            moments = {key: tensors[f"{name}|{key}"].to(one.device) for key in _MOMENTS}
            optimizer.state[one] = {"step": torch.tensor(float(state.step)), **moments}
        return state
