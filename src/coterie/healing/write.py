"""Write a healed checkpoint: the cut one's files, with the weights that were trained in place."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from coterie.errors import VerificationError
from coterie.models.cutting.config_file import write_fields
from coterie.models.cutting.in_memory import renumbered
from coterie.models.cutting.write import carry
from coterie.models.files.sources import Source
from coterie.models.files.weights import plain_names
from coterie.models.loaded.load import load_model
from coterie.models.tolerance import tolerance


def write_healed(
    cut: Source, trained: Mapping[str, Tensor], path: str, kept: Sequence[int], folder: Path
) -> None:
    """Write the cut checkpoint with its trained weights, each in the dtype it had.

    Args:
        cut: The checkpoint that was healed.
        trained: Weights by their name in the full model.
        path: The full model's stack, such as ``"model.layers"``.
        kept: Its players that the cut checkpoint consists of.
        folder: An empty folder.
    """
    # On the CPU, in the dtypes of the files: a copy rounds each weight as it was stored.
    model = load_model(cut, dtype=None, device="cpu")
    own = dict(model.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        for name, weight in trained.items():
            new = renumbered(name, path, tuple(kept))
            if new is not None and new in own:
                own[new].copy_(weight)
    model.save_pretrained(folder)
    # transformers writes fields of its own into the config: those of the cut stay.
    write_fields(plain_names(cut.raw_config()), folder)
    carry(cut.folder, folder)


def check_written(name: str, learned: float, read: float) -> None:
    """Hold the loss of the reloaded checkpoint against that of the student in memory.

    Args:
        name: Name of the checkpoint, for the message.
        learned: Loss in memory, nats per token, the weights rounded as in the files.
        read: Loss when read back.

    Raises:
        VerificationError: they are further apart than sums in 16 bits explain.
    """
    allowed = tolerance(torch.bfloat16).reloaded_nats  # it may be computed in 16 bits
    if not abs(learned - read) <= allowed:
        raise VerificationError(
            f"the healed {name!r} loses {read:.4f} nats per token when read back, and"
            f" {learned:.4f} in memory: more than {allowed} apart"
        )
