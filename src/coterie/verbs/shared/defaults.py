"""What holds unless the user says otherwise: the dtype, the length a model reads, the text."""

import numpy as np
import torch
from numpy.typing import NDArray

from coterie.errors import ModelError, UserError
from coterie.models.families.fields import text_config
from coterie.models.files.places import REFERENCE
from coterie.models.loaded.load import Source, default_dtype
from coterie.texts.recipe import CALIBRATION_ON_HUB

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def dtype_of(asked: str, device: torch.device) -> tuple[torch.dtype, str]:
    """The dtype asked for, or the device's best, and the reason.

    Raises:
        UserError: none of the names there are.
    """
    # The reason goes into the record: "auto" alone would not say what ran.
    if asked == "auto":
        return default_dtype(device)
    if asked not in _DTYPES:
        raise UserError(f"--dtype {asked} is unknown: there is auto, {', '.join(_DTYPES)}")
    return _DTYPES[asked], "as asked"


def context_of(source: Source) -> int | None:
    """The most positions the model reads, where its config says so."""
    config = text_config(source.config())
    # Names differ by family; the first that is set counts.
    for name in ("max_position_embeddings", "n_positions", "max_seq_len", "context_length"):
        if isinstance(length := getattr(config, name, None), int) and length > 0:
            return length
    return None


def check_rows(source: Source, tokens: NDArray[np.int64]) -> None:
    """Refuse tokens that the model has no embedding for: their number would be out of range.

    Raises:
        ModelError: names the highest of them, and how many rows there are.
    """
    rows = getattr(text_config(source.config()), "vocab_size", None)
    if isinstance(rows, int) and tokens.size and int(tokens.max()) >= rows:
        raise ModelError(
            f"the tokenizer of {source.name!r} makes token {int(tokens.max())} of this text, and"
            f" the embedding has {rows} rows: put the model's own tokenizer files there"
        )


def default_calibration(source: Source) -> str:
    """The text that calibrates where none is named."""
    # Its calibration ships with Python: `reference` runs without any network.
    if source.name == REFERENCE:
        return "stdlib"
    return CALIBRATION_ON_HUB


def name_of(dtype: torch.dtype) -> str:
    """`float32`, not `torch.float32`."""
    return str(dtype).removeprefix("torch.")
