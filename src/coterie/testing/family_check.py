"""Check one model type on a tiny random model: cut, write, reload, compare with what was masked.

This is the promise of the package, type by type: the checkpoint that a cut writes gives what was
measured with the cut layers skipped, and generates with its cache as without.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from coterie.errors import CoterieError
from coterie.game.coalitions import Coalitions
from coterie.models.cutting.verify import Expectation, Verification, expect, verify
from coterie.models.cutting.write import write_cut
from coterie.models.loaded.load import load_model, resolve
from coterie.models.loaded.stack import Stack, find_stack
from coterie.testing.small_sizes import VOCABULARY
from coterie.testing.tiny import tiny_model

LAYERS = 6
"""Decoder layers of the tiny models: enough for every kind of layer to occur and to go."""

LEAST_EFFECT = 1e-3
"""Least change of a logit for a cut to count as one; less would make the check empty."""

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
        mode: How the engine evaluated it, or "".
        engine_difference: Largest difference of the engine's value from that of the reloaded
            checkpoint, nats per token; NaN if no engine was asked.
        seconds: What the check took.
    """

    model_type: str
    path: str = ""
    n_players: int = 0
    locks: tuple[tuple[int, str], ...] = ()
    coalitions: tuple[tuple[int, ...], ...] = ()
    verifications: tuple[Verification, ...] = ()
    failure: str = ""
    mode: str = ""
    engine_difference: float = float("nan")
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether every coalition gave what it must."""
        return not self.failure


def seeded_coalitions(stack: Stack, *, rng: np.random.Generator) -> list[tuple[int, ...]]:
    """A few sets of kept players: one without the first unlocked, one without the last, one small.

    Each cuts further unlocked players at random, the last one two thirds of them.
    """
    unlocked = np.array(stack.unlocked)
    chosen = []
    for must, share in ((unlocked[0], 1 / 3), (unlocked[-1], 1 / 2), (unlocked[1], 2 / 3)):
        # Different sizes of cut, for rules of a family may only show in one.
        n_cut = max(1, round(share * len(unlocked)))
        others = rng.permutation(unlocked[unlocked != must])[: n_cut - 1]
        cut = {int(must), *others.tolist()}
        chosen.append(tuple(i for i in range(stack.n_players) if i not in cut))
    return chosen


Engine = Callable[[PreTrainedModel, Stack, Coalitions, Tensor], tuple[str, NDArray[np.float64]]]
"""Evaluates coalitions on tokens ``(n_sequences, length)``: how it did, and each mean NLL."""

TOLERANCE_NATS = 1e-5
"""Largest difference allowed between the engine and the reloaded checkpoint, nats per token."""

MOE_TOLERANCE_NATS = 1e-4
"""The same for mixtures of experts, whose routers break near ties by the order of additions."""


def check_family(
    model_type: str, folder: Path, *, engine: Engine | None = None, seed: int = 0
) -> FamilyCheck:
    """Check one type in an empty folder; a failure is an answer, not an exception.

    Args:
        model_type: As in `tiny.causal_types`.
        folder: Where checkpoints may be written.
        engine: Evaluates coalitions, to be compared with the reloaded checkpoints.
        seed: Of the coalitions and the tokens.
    """
    began = time.perf_counter()
    fields: dict[str, object] = {}
    try:
        # A type gets the same cuts whichever types are checked beside it.
        rng = np.random.default_rng([seed, crc32(model_type.encode())])
        _check(model_type, folder, rng, engine, fields)
        failure = ""
    except Exception as error:  # a survey must go on whatever one architecture raises
        kind = "" if isinstance(error, CoterieError) else f"{type(error).__name__}: "
        failure = kind + (str(error).strip() or "no message").splitlines()[0]
    seconds = time.perf_counter() - began
    return FamilyCheck(model_type, **fields, failure=failure, seconds=seconds)  # type: ignore


def _check(
    model_type: str,
    folder: Path,
    rng: np.random.Generator,
    engine: Engine | None,
    fields: dict[str, object],
) -> None:
    tiny_model(model_type, LAYERS).save_pretrained(folder / "whole")
    # From here on as a user's checkpoint: plain transformers must be able to load it.
    model = load_model(resolve(str(folder / "whole")), dtype=torch.float32, device="cpu")
    stack = find_stack(model)
    fields |= {"path": stack.path, "n_players": stack.n_players}
    fields["locks"] = tuple(stack.locks.items())
    if len(stack.unlocked) < 2:
        raise CoterieError(f"only {len(stack.unlocked)} of {stack.n_players} players are unlocked")
    coalitions = seeded_coalitions(stack, rng=rng)
    fields["coalitions"] = tuple(coalitions)
    tokens = torch.from_numpy(rng.integers(3, VOCABULARY, size=(2, LENGTH)))
    with torch.no_grad():
        logits = model(input_ids=tokens, use_cache=False).logits
    done: list[Verification] = []
    for number, kept in enumerate(coalitions):
        expected = expectation(model, stack, kept, tokens)
        # A cut that changes nothing would pass any comparison.
        if not (logits - expected.logits).abs().max() > LEAST_EFFECT:
            raise CoterieError(f"keeping {list(kept)} gives the logits of the whole model")
        write_cut(resolve(str(folder / "whole")), kept, folder / f"{number}")
        done.append(verify(expected, folder / f"{number}"))
        fields["verifications"] = tuple(done)
    # The engine's values against the reloaded checkpoints', on the same coalitions.
    if engine is not None:
        asked = np.array([[i in kept for i in range(stack.n_players)] for kept in coalitions])
        mode, found = engine(model, stack, asked, tokens)
        difference = float(np.abs(found - np.array([one.nll for one in done])).max())
        fields |= {"mode": mode, "engine_difference": difference}
        _check_difference(model, difference)


def _check_difference(model: PreTrainedModel, difference: float) -> None:
    """Refuse an engine whose values are further from the reloaded checkpoint's than rounding."""
    experts = any("expert" in name for name, _ in model.named_modules())
    if not difference <= (MOE_TOLERANCE_NATS if experts else TOLERANCE_NATS):
        raise CoterieError(
            f"the engine's value is {difference:.1e} nats per token from the reloaded checkpoint's"
        )


def expectation(
    model: PreTrainedModel, stack: Stack, kept: Sequence[int], tokens: Tensor
) -> Expectation:
    """What the model cut to ``kept`` must do.

    Args:
        model: The full model.
        stack: Its layers.
        kept: Layers that stay, 0-based.
        tokens: ``(n_sequences, length)``.
    """
    return expect(model, stack, [player in kept for player in range(stack.n_players)], tokens)
