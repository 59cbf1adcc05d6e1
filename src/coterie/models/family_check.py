"""Check one model type on a tiny random model: cut, write, reload, and compare with what was masked.

This is the promise of the package, type by type: the checkpoint that a cut writes gives what was
measured with the cut layers skipped, and generates with its cache as without.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from coterie.errors import CoterieError
from coterie.models.safety import Expectation, Verification, expect, verify
from coterie.models.sources import resolve
from coterie.models.stack import Stack, find_stack
from coterie.models.streaming import write_cut
from coterie.models.tiny import VOCABULARY, tiny_model

LAYERS = 6
"""Decoder layers of the tiny models: enough for every kind of layer to occur and to go."""

LENGTH = 24
"""Tokens per sequence."""

COALITIONS = 3
"""Coalitions checked per type, every one cutting at least one unlocked player."""


@dataclass(frozen=True)
class FamilyCheck:
    """How one model type fared.

    Attributes:
        model_type: As in transformers' causal-LM mapping.
        path: Where its layers are, or "".
        n_players: Number of layers.
        locks: Players that must stay, with reasons.
        coalitions: The coalitions checked, as kept players.
        verifications: One for each coalition.
        failure: Why the type is a miss, or "".
        seconds: What the check took.
    """

    model_type: str
    path: str = ""
    n_players: int = 0
    locks: tuple[tuple[int, str], ...] = ()
    coalitions: tuple[tuple[int, ...], ...] = ()
    verifications: tuple[Verification, ...] = ()
    failure: str = ""
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether every coalition gave what it must."""
        return not self.failure


def seeded_coalitions(stack: Stack, *, rng: np.random.Generator) -> list[tuple[int, ...]]:
    """A few sets of kept players, each cutting between one unlocked player and half of them."""
    unlocked = np.array(stack.unlocked)
    chosen = []
    for _ in range(COALITIONS):
        n_cut = int(rng.integers(1, max(2, len(unlocked) // 2 + 1)))
        cut = set(rng.choice(unlocked, size=n_cut, replace=False).tolist())
        chosen.append(tuple(i for i in range(stack.n_players) if i not in cut))
    return chosen


def check_family(model_type: str, folder: Path, *, seed: int = 0) -> FamilyCheck:
    """Check one type in an empty folder; a failure is an answer, not an exception."""
    began = time.perf_counter()
    fields: dict[str, object] = {}
    try:
        _check(model_type, folder, np.random.default_rng(seed), fields)
        failure = ""
    except Exception as error:  # a survey must go on whatever one architecture raises
        kind = "" if isinstance(error, CoterieError) else f"{type(error).__name__}: "
        failure = kind + (str(error).strip() or "no message").splitlines()[0]
    seconds = time.perf_counter() - began
    return FamilyCheck(model_type, **fields, failure=failure, seconds=seconds)  # type: ignore


def _check(
    model_type: str, folder: Path, rng: np.random.Generator, fields: dict[str, object]
) -> None:
    model = tiny_model(model_type, LAYERS)
    model.save_pretrained(folder / "whole")
    stack = find_stack(model)
    fields |= {"path": stack.path, "n_players": stack.n_players}
    fields["locks"] = tuple(stack.locks.items())
    if len(stack.unlocked) < 2:
        raise CoterieError(f"only {len(stack.unlocked)} of {stack.n_players} players are unlocked")
    coalitions = seeded_coalitions(stack, rng=rng)
    fields["coalitions"] = tuple(coalitions)
    tokens = torch.from_numpy(rng.integers(3, VOCABULARY, size=(2, LENGTH)))
    done: list[Verification] = []
    for number, kept in enumerate(coalitions):
        done.append(check_cut(model, stack, kept, tokens, folder / "whole", folder / f"{number}"))
        fields["verifications"] = tuple(done)


def check_cut(
    model: PreTrainedModel,
    stack: Stack,
    kept: Sequence[int],
    tokens: Tensor,
    whole: Path,
    output: Path,
) -> Verification:
    """Cut a saved model to some players and hold the result against the masked model.

    Raises:
        VerificationError: It does not match.
    """
    write_cut(resolve(str(whole)), kept, output)
    return verify(expectation(model, stack, kept, tokens), output)


def expectation(
    model: PreTrainedModel, stack: Stack, kept: Sequence[int], tokens: Tensor
) -> Expectation:
    """What the model cut to ``kept`` must do."""
    return expect(model, stack, [player in kept for player in range(stack.n_players)], tokens)
