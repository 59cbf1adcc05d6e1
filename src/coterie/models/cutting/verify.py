"""The safety net: is what we are about to write, and what we wrote, what we measured?

Before writing, the cut config is built on the meta device and every kept layer is compared with the
original (`structure.check_structure`). Afterwards the checkpoint is reloaded as anybody would and
must give the logits of the masked full model, and the same greedy text with its cache as without.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, GenerationConfig, PreTrainedModel

from coterie.errors import VerificationError
from coterie.models.families.fields import text_config
from coterie.models.files.fit import missing_tensors, model_and_info
from coterie.models.files.kinds import auto_class
from coterie.models.files.sources import Source
from coterie.models.loaded.routing import input_device, routed
from coterie.models.loaded.stack import Stack
from coterie.models.tolerance import tolerance

PROBE = (2, 32)
"""Shape of the token ids on which a checkpoint is tried where no text is at hand."""

GENERATED = 8
"""Tokens generated with and without the cache."""


@dataclass(frozen=True, eq=False)
class Expectation:
    """What the cut model must do, measured on the full model with the cut players skipped.

    Attributes:
        tokens: Ids ``(n_sequences, length)``.
        logits: ``(n_sequences, length, vocabulary)``, on the CPU.
        dtype: Of the full model, in which the cut one is reloaded.
        device: Of the full model's input.
        cache_works: Whether the full model itself generates the same with its cache as without.
    """

    tokens: Tensor
    logits: Tensor
    dtype: torch.dtype
    device: torch.device
    cache_works: bool


@dataclass(frozen=True)
class Verification:
    """How near the reloaded checkpoint is to what was measured.

    Attributes:
        max_logit_difference: Largest absolute difference of two logits.
        nll: Mean negative log-likelihood of the reloaded checkpoint, nats per token.
        nll_difference: Absolute difference of the mean negative log-likelihood, nats per token.
        generate_ok: Whether greedy generation with the cache equals generation without; None if
            the full model's own does not, so that nothing can be asked of the cut one.
        apart: Prompts on which it did not although it did on another: where a router or an indexer
            chooses by a hair, the order of additions decides. Zero in all other models.
    """

    max_logit_difference: float
    nll: float
    nll_difference: float
    generate_ok: bool | None
    apart: int = 0


def probe_tokens(source: Source) -> Tensor:
    """Token ids to try a model of this source on, always the same ones, of shape `PROBE`."""
    vocabulary = text_config(source.config()).vocab_size
    return torch.from_numpy(np.random.default_rng(0).integers(0, vocabulary, size=PROBE))


@torch.no_grad()
def expect(
    model: PreTrainedModel, stack: Stack, coalition: Sequence[bool], tokens: Tensor
) -> Expectation:
    """Measure what the cut model must do; afterwards the full model may be let go.

    Args:
        model: The full model, in evaluation mode.
        stack: Its players.
        coalition: True for each player that stays.
        tokens: A few texts, ``(n_sequences, length)``.
    """
    device = input_device(model)
    with routed(model, stack, coalition):
        logits = model(input_ids=tokens.to(device), use_cache=False).logits
    try:
        works = len(_differences(model, tokens)) < len(tokens)
    except (RuntimeError, ValueError, TypeError, AttributeError, LookupError):
        works = False  # the full model's own cached generation is broken: nothing to compare with
    return Expectation(tokens.cpu(), logits.float().cpu(), model.dtype, device, works)


@torch.no_grad()
def verify(expected: Expectation, output: Path, *, trust_remote_code: bool = False) -> Verification:
    """Reload a cut checkpoint with plain transformers and hold it against what was measured.

    Args:
        expected: What it must do.
        output: Folder of the checkpoint.
        trust_remote_code: Whether Python files in it may be run.

    Raises:
        VerificationError: Tensors are missing or left over, the likelihood differs, or generation
            with the cache goes another way than without.
    """
    cut = _reload(output, expected.dtype, trust_remote_code)
    nn.Module.to(cut, expected.device)
    logits = cut(input_ids=expected.tokens.to(expected.device), use_cache=False).logits
    logits = logits.float().cpu()
    if logits.shape != expected.logits.shape:
        raise VerificationError(
            f"the reloaded model gives logits of shape {tuple(logits.shape)}, the masked one"
            f" {tuple(expected.logits.shape)}"
        )
    gap = (logits - expected.logits).abs().max().item()
    nll = _nll(logits, expected.tokens)
    nll_gap = abs(nll - _nll(expected.logits, expected.tokens))
    allowed = tolerance(expected.dtype).reloaded_nats
    if not nll_gap <= allowed:
        raise VerificationError(
            f"the reloaded model's loss is {nll_gap:.2e} nats per token away from the masked"
            f" model's (allowed {allowed:.0e}; largest logit difference {gap:.2e})"
        )
    if not expected.cache_works:
        return Verification(gap, nll, nll_gap, None)
    places = _differences(cut, expected.tokens)
    if len(places) == len(expected.tokens):
        raise VerificationError(
            f"the reloaded model generates another token {places[0]} with its cache than without:"
            " some layer's number or kind does not match its cache"
        )
    return Verification(gap, nll, nll_gap, True, len(places))


def check_filled(output: Path, source: Source) -> None:
    """Reload a cut checkpoint on the meta device: does transformers find every tensor?

    For models that are too large to be held twice.

    Args:
        output: Folder of the cut checkpoint.
        source: What was cut.

    Raises:
        VerificationError: Names a tensor that is missing.
    """
    trust = source.trust_remote_code
    config = AutoConfig.from_pretrained(output, trust_remote_code=trust, local_files_only=True)
    missing = sorted(missing_tensors(output, config))
    if missing:
        raise VerificationError(
            f"the written checkpoint does not fill the model: {missing[0]} is missing"
            f" ({len(missing)} in all)"
        )


def _reload(output: Path, dtype: torch.dtype, trust_remote_code: bool) -> PreTrainedModel:
    config = AutoConfig.from_pretrained(output, trust_remote_code=trust_remote_code)
    loaded = auto_class(config).from_pretrained(
        output, dtype=dtype, trust_remote_code=trust_remote_code, output_loading_info=True
    )
    model, info = model_and_info(loaded)
    for kind in ("missing_keys", "mismatched_keys"):
        names = sorted(str(name) for name in info[kind])
        if names:
            raise VerificationError(
                f"the written checkpoint does not fill the model: {kind.replace('_', ' ')}"
                f" {names[0]} ({len(names)} in all)"
            )
    return model.eval()


def _differences(model: PreTrainedModel, tokens: Tensor) -> list[int]:
    """Where generation differs with the cache, prompt by prompt, up to the first that does not.

    A wrong cache is wrong on every prompt.
    """
    places = []
    for prompt in tokens:
        place = _first_difference(model, prompt[None])
        if place is None:
            break
        places.append(place)
    return places


def _first_difference(model: PreTrainedModel, tokens: Tensor) -> int | None:
    """The first of `GENERATED` greedy tokens that differs with the cache; None if none does."""
    prompt = tokens[:1, : max(1, tokens.shape[1] // 2)].to(input_device(model))
    kept = model.generation_config
    model.generation_config = GenerationConfig(
        max_new_tokens=GENERATED, min_new_tokens=GENERATED, do_sample=False, pad_token_id=0
    )
    try:
        cached = model.generate(prompt, use_cache=True)[0, prompt.shape[1] :]  # type: ignore[operator]
    finally:
        model.generation_config = kept
    text = prompt
    for place, token in enumerate(cached):
        logits = model(input_ids=text, use_cache=False).logits[0, -1].float()
        # A near tie may fall either way; only a token that is clearly not the best is an error.
        margin = 1e-4 if model.dtype == torch.float32 else 0.1
        if logits[token] < logits.max() - margin * max(1.0, logits.abs().max().item()):
            return place
        text = torch.cat([text, token[None, None]], dim=1)
    return None


def _nll(logits: Tensor, tokens: Tensor) -> float:
    return cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()).item()
