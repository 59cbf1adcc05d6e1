"""What both reports of a sparse checkpoint say."""

from coterie.report.schema.basics import TextPart
from coterie.report.schema.sparsify import SparsityPart

RUNTIMES = (
    "Zeros in scattered places save no time on ordinary hardware: dense kernels multiply them too. "
    "2:4 patterns profit from NVIDIA's sparse tensor cores (Ampere and later), any zeros from "
    "CPU engines that keep weights sparse, and from compressed storage."
)
"""Who profits from zeros; said wherever a user chooses them."""

NAMED = 4
"""Maps that no input reached, named on a terminal; all are in the record."""


def inputs_judged(sparse: SparsityPart) -> str:
    """On how many inputs maps were judged, and which of them on none."""
    # Weights alone: said, so that nobody looks for a text.
    if sparse.judged_on is None:
        return f"{sparse.pruner} looks at weights alone: no text was read for pruning"
    fewest, most = sparse.judged_on
    rows = f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"
    told = f"maps were judged on {rows} calibration inputs each"
    if unseen := sparse.unseen:
        # A few names; the record has them all.
        named = ", ".join(unseen[:NAMED]) + (", …" if len(unseen) > NAMED else "")
        told += (
            f"; none reached {len(unseen)} of them, in which weights alone decided ({named}): "
            "more --pruning-sequences would reach more"
        )
    return told


def sparsity_asked(sparse: SparsityPart) -> str:
    """The sparsity that was asked for: a pattern, or a share."""
    return f"{sparse.pattern or format(sparse.target, '.0%')} sparse"


def sequences_of(text: TextPart) -> str:
    """A text with its sequences, as records of sparse checkpoints name it."""
    bos = "BOS first" if text.bos else "no BOS"
    return f"{text.description}, {text.sequences} × {text.length} tokens, {bos}"
