"""Quantize a checkpoint and prove that what was saved is what was in memory."""

import gc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoConfig, PreTrainedModel

from coterie.errors import VerificationError
from coterie.models.cutting.verify import probe_tokens
from coterie.models.cutting.write import carry
from coterie.models.files.sources import Source
from coterie.models.loaded.load import auto_class
from coterie.quantization.schemes import Scheme, SchemeError

TOLERANCE = 1e-5
"""Largest difference of two logits, as a share of the largest logit."""


@dataclass(frozen=True)
class Reloaded:
    """How near the reloaded checkpoint is to the model that was quantized.

    Attributes:
        max_logit_difference: Largest absolute difference of two logits.
        largest_logit: Largest absolute logit, to compare with.
    """

    max_logit_difference: float
    largest_logit: float


def write_quantized(source: Source, scheme: Scheme, device: torch.device, folder: Path) -> Reloaded:
    """Quantize a checkpoint into an empty folder, and read it back.

    Args:
        source: The checkpoint that is read.
        scheme: Which kind of numbers the weights become.
        device: Device that quantizes.
        folder: An empty folder.

    Raises:
        SchemeError: the model is quantized already, or the library refuses it.
        VerificationError: what was read back gives other logits.
    """
    check_plain(source)
    assert scheme.config is not None  # what another Python does never comes here
    options: dict[str, object] = {"quantization_config": scheme.config()}
    try:
        model = _load(source.folder, device, source.trust_remote_code, options)
    # Libraries refuse a model in many ways; to the user it is one: this scheme cannot.
    except (ImportError, RuntimeError, ValueError, NotImplementedError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise SchemeError(
            f"{scheme.library} cannot quantize {source.name!r} as {scheme.name}: {reason}"
        ) from error
    # Proof by logits: a loss could agree by chance, every logit cannot.
    ids = probe_tokens(source).to(device)
    before = _logits(model, ids)
    model.save_pretrained(folder)
    carry(source.folder, folder)
    # Freed before the next is loaded: two do not fit where one just does.
    del model
    gc.collect()
    after = _logits(_load(folder, device, source.trust_remote_code, {}), ids)
    return check_reloaded(source.name, scheme.name, before, after)


def check_reloaded(name: str, scheme: str, before: Tensor, after: Tensor) -> Reloaded:
    """Hold the logits of the reloaded checkpoint against those of the model that was quantized.

    Args:
        name: Name of the checkpoint, for the message.
        scheme: The scheme, by its name.
        before: Logits in memory.
        after: Logits of what was read back.

    Raises:
        VerificationError: they differ.
    """
    found = Reloaded((after - before).abs().max().item(), before.abs().max().item())
    # "not <=" and not ">": a difference that is no number is refused as well.
    if not found.max_logit_difference <= TOLERANCE * found.largest_logit:
        raise VerificationError(
            f"{scheme} of {name!r} is not the same when read back: its logits differ"
            f" by {found.max_logit_difference:.2e} of {found.largest_logit:.1f}; nothing was kept"
        )
    return found


def check_plain(source: Source) -> None:
    """Refuse a checkpoint that is quantized already.

    Raises:
        SchemeError: it is.
    """
    if getattr(source.config(), "quantization_config", None) is not None:
        raise SchemeError(
            f"{source.name!r} is quantized already: take the checkpoint it was made from"
        )


def load_quantized(source: Source, device: torch.device) -> PreTrainedModel:
    """A checkpoint in its own dtype, quantized or not, ready to predict."""
    return _load(source.folder, device, source.trust_remote_code, {})


def _load(
    folder: Path, device: torch.device, trust: bool, options: dict[str, object]
) -> PreTrainedModel:
    config = AutoConfig.from_pretrained(folder, trust_remote_code=trust, local_files_only=True)
    load: Callable[..., PreTrainedModel] = auto_class(config).from_pretrained
    return load(
        folder,
        dtype="auto",
        device_map={"": device},
        trust_remote_code=trust,
        local_files_only=True,
        use_safetensors=True,
        **options,
    ).eval()


@torch.no_grad()
def _logits(model: PreTrainedModel, ids: Tensor) -> Tensor:
    return model(input_ids=ids, use_cache=False).logits.float().cpu()
