"""Layers that forget what is inside them and compute it again on the way back, to save memory.

Training in thrifty memory (arXiv:1604.06174). transformers ties it to training mode, in which some
families drop values at random (OPT, XGLM, BioGPT), so that it would not be the same step.
"""

from functools import partial

import torch
from torch.utils.checkpoint import checkpoint

from coterie.healing.origin import HealError
from coterie.healing.students import Student
from coterie.models.loaded.routing import Forward


def recompute_layers(student: Student) -> None:
    """Have layers compute again on the way back; what they compute stays the same.

    Raises:
        HealError: transformers cannot do so for this family.
    """
    model = student.model
    if not model.supports_gradient_checkpointing:
        raise HealError(
            f"--recompute: transformers cannot recompute the layers of a {type(model).__name__}:"
            " leave it out, and give a smaller --batch or more --parts"
        )
    for layer in student.stack.layers:
        layer.forward = _recomputed(layer.forward)


def _recomputed(forward: Forward) -> Forward:
    def run(*args: object, **kwargs: object) -> object:
        # The teacher and whoever judges keep nothing that could be forgotten.
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        return checkpoint(partial(forward, **kwargs), *args, use_reentrant=False)

    return run
