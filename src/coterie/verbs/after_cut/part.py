"""What was done to a checkpoint after its cut, judged: the part that `coterie.json` has of it."""

from collections.abc import Mapping
from pathlib import Path

import torch

from coterie.game.coalitions import Vector
from coterie.models.files.sources import Source
from coterie.report.schema.after_cut import AfterPart
from coterie.texts.sets import TextSet
from coterie.verbs.after_cut.heal_request import HealRequest
from coterie.verbs.after_cut.quantize_request import QuantizeRequest
from coterie.verbs.after_cut.repair_request import RepairRequest
from coterie.verbs.shared.prepared import text_part
from coterie.verbs.shared.provenance import machine, versions
from coterie.verbs.shared.verdict import difference, n_bytes, perplexity, recovered

Losses = Mapping[str, tuple[Vector, int]]
"""Losses on what judges, ``(n_sequences,)``, and how many of these were no number: ``before`` and
``after``; ``full`` as well where the model that was cut is known."""


def after_part(
    request: HealRequest | QuantizeRequest | RepairRequest,
    losses: Losses,
    *,
    sources: tuple[Source, Source],
    texts: tuple[TextSet | None, TextSet],
    output: Path,
    device: str,
) -> AfterPart:
    """The part of one verb; what that verb alone has to say is added by the verb.

    Args:
        request: What was asked.
        losses: Of the checkpoint before and after, in nats per token.
        sources: The checkpoint before and after.
        texts: What was learned from, if anything was, and what judges.
        output: Folder of the new checkpoint.
        device: What it was done on.
    """
    training, held_out = texts
    before, after = losses["before"][0], losses["after"][0]
    full = losses["full"][0] if "full" in losses else None
    return AfterPart(
        what=request.VERB,
        command=request.command(output),
        settings=request.as_json(),
        text=None if training is None else text_part(training),
        held_out=text_part(held_out),
        full=None if full is None else perplexity(full, held_out.documents),
        before=perplexity(before, held_out.documents),
        after=perplexity(after, held_out.documents),
        difference=difference(before, after, held_out),
        recovered=None if full is None else recovered(full, before, after),
        bytes_before=n_bytes(sources[0]),
        bytes_after=n_bytes(sources[1]),
        # Of what lies in the folder: a cut that broke down may have been mended.
        not_finite=losses["after"][1],
        versions=versions(),
        machine=machine(torch.get_num_threads(), device),
    )
