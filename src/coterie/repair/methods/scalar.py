"""One number a gap: what is written before a gap is rescaled (Prune&Comp, arXiv:2507.18212).

Where layers go, the state that they would have made larger stays small. With y the state before
the gap and t the full model's after it,

    α = mean ‖t‖ / mean ‖y‖,

and all that has written to the state before the gap, embedding and kept layers, is multiplied by α.
Layers read the state through a norm, so that those before the gap see no difference; a tied head
does, and the last norm is divided by the same number.
"""

import torch
from torch import Tensor, nn

from coterie.errors import RepairError
from coterie.repair.inputs import scaled_norm
from coterie.repair.interface import Repair
from coterie.repair.place import KeptLayer
from coterie.repair.walk import Walk


def refit_scalar(place: KeptLayer) -> None:
    """Rescale what has written before a gap.

    Raises:
        RepairError: Something writes to the state that cannot be rescaled.
    """
    _check(place)
    if place.gap:
        walk, wanted = place.walk, place.beyond()
        place.leave()
        factor = float(_size(wanted) / _size(walk.kept))
        for earlier in (one for one in walk.passed if one.turn.layer <= place.turn.layer):
            for writer in (writer for part in earlier.parts for writer in part.writers):
                earlier.scale(writer, factor)
        walk.kept = walk.kept * factor
        walk.rescaled *= factor


def finish(walk: Walk) -> None:
    """Rescale the embeddings as all that was written after them."""
    if walk.changes:
        with walk.whole.outside():
            _rescale_ends(walk, walk.rescaled)


def _size(states: Tensor) -> Tensor:
    return states.float().square().mean(dim=-1).sqrt().mean()


def _check(place: KeptLayer) -> None:
    if not all(part.writers for part in place.parts):
        raise RepairError(
            f"layer {place.turn.layer} writes to the state with more than linear maps, which cannot"
            " be rescaled: choose another repair (--repair progressive) or none"
        )


def _rescale_ends(walk: Walk, factor: float) -> None:
    """The embeddings, and the last norm where the head is the embedding's own matrix."""
    model, few = walk.model, walk.tokens[:2]
    tied = model.get_output_embeddings()
    tied_to = None if tied is None else id(tied.weight)
    head = walk.whole.head(few)
    inside = {id(module) for layer in walk.stack.layers for module in layer.modules()}
    before = walk.layers.prelude(few).embedded
    names = {id(module): name for name, module in model.named_modules()}
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding) and id(module) not in inside:
            walk.changes.put(f"{name}.weight", module.weight * factor)
            if id(module.weight) == tied_to and head.norms:
                norm = head.norms[0]
                for part, value in scaled_norm(norm, 1 / factor).items():
                    walk.changes.put(f"{names[id(norm)]}.{part}", value)
    after = walk.layers.prelude(few).embedded
    if not torch.allclose(after, before * factor, rtol=0.05, atol=1e-3 * float(after.abs().max())):
        raise RepairError(
            f"what {type(model).__name__} embeds passes through a norm, so that it cannot be"
            " rescaled: choose another repair (--repair progressive) or none"
        )


SCALAR = Repair(
    "scalar", "what writes before a gap is rescaled", "2507.18212", refit_scalar, finish
)
