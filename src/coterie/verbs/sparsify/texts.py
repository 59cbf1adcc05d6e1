"""The texts a pruner measures on: more than the game is played on, and never those of the verdict.

A game of layers is decided on few sequences; what the inputs of a map are like is not known from
them, and a search among many allocations learns them by heart. Wanda and SparseGPT were published
with 128 sequences of 2,048 tokens, and a Hessian of fewer tokens than inputs has no inverse.
"""

from dataclasses import replace

import numpy as np

from coterie.errors import TextError
from coterie.models.cutting.structure import meta_model
from coterie.models.loaded.stack import Stack, find_stack
from coterie.sparsity.checks import check_tokens, widest_input
from coterie.sparsity.pruners import find_pruner
from coterie.texts.sets import TextSet
from coterie.verbs.shared.prepared import Prepared
from coterie.verbs.shared.progress import Progress
from coterie.verbs.sparsify.request import SparsifyRequest

SEQUENCES = 128
"""Sequences that are measured on by default, as published; as many as the game's if it has more."""

PER_INPUT = 10
"""Tokens for every input of the widest map that a Hessian is measured on by default."""

JUDGED = 32
"""Sequences that allocations are judged on; ten proved too few to search on (see the log)."""

MOST = 2048
"""Most sequences that this comes to."""


def with_pruning_texts(
    prepared: Prepared, request: SparsifyRequest, progress: Progress
) -> Prepared:
    """The same, and more texts where a pruner or OWL measures, or allocations are judged.

    Args:
        prepared: The model's files and the texts of the game.
        request: Which pruner and rule, and how many sequences if the user says so.
        progress: Warns of a text that is shorter than it should be.

    Raises:
        TextError: fewer sequences than were asked for.
        SparsityError: too few tokens for the pruner; raised before a weight is loaded.
    """
    if not (request.measures() or request.rule().contributions):
        return prepared
    source = prepared.source
    # Shapes alone tell how much text a Hessian needs: no weight is loaded.
    layers = find_stack(meta_model(source.config(), trust_remote_code=source.trust_remote_code))
    wanted = request.pruning_sequences or _enough(prepared.calibration, request, layers)
    texts = prepared.recipe.more(wanted)
    if texts.n_sequences < wanted:
        to = "prune on" if request.measures() else "judge allocations on"
        short = f"the calibration text has {texts.n_sequences} sequences to {to} where {wanted}"
        # A number that was asked for is a promise; a default takes what there is.
        if request.pruning_sequences is not None:
            raise TextError(f"{short} are asked: give more text or fewer --pruning-sequences")
        progress.say(f"warning: {short} were wanted: more text would be better")
    allocation = [request.target()] * layers.n_players
    check_tokens(layers, allocation, find_pruner(request.pruner), texts.tokens.size)
    return replace(prepared, pruning=texts)


def _enough(texts: TextSet, request: SparsifyRequest, layers: Stack) -> int:
    """Sequences to measure on unless another number is asked for."""
    least = max(SEQUENCES if request.measures() else JUDGED, texts.n_sequences)
    if find_pruner(request.pruner).needs != "hessian":
        return least
    tokens = PER_INPUT * widest_input(layers)
    return max(least, min(MOST, -(-tokens // texts.length)))


def judged_on(prepared: Prepared) -> TextSet:
    """The texts that allocations are judged on: those of the game, and more if there are."""
    played, texts = prepared.calibration, prepared.measured
    if texts.n_sequences <= played.n_sequences:
        return played
    n_sequences = max(JUDGED, played.n_sequences)
    return texts.some(np.arange(min(n_sequences, texts.n_sequences)))
