"""Whether the text that chooses is of the kind of the text that judges, by its tokens alone.

Counts of tokens on one side guess the tokens of the other. What a held-out token is then harder to
guess than from as much other held-out text,

    D = H(held-out | counts of the calibration text) − H(held-out | counts of held-out text),

is next to nothing for texts of one kind: 0.02 to 0.12 nats for encyclopedia, novels, news, stories
and code, each against itself, and 0.38 to 1.85 against one another (docs/log.md).
"""

import numpy as np

from coterie.texts.sets import TextSet, Tokens

UNLIKE = 0.3
"""Nats per token from which two texts are told to be unlike."""

LEAST_TOKENS = 1500
"""Tokens on each side of a comparison; of fewer, counts say nothing."""


def token_distance(calibration: TextSet, held_out: TextSet) -> float | None:
    """How much harder held-out tokens are to guess from calibration text than from their own kind.

    Args:
        calibration: Sequences that choose.
        held_out: Sequences that judge.

    Returns:
        Nats per token; None where there is too little text or a single document to tell.
    """
    odd = np.isin(held_out.documents, np.unique(held_out.documents)[1::2])
    halves = held_out.tokens[~odd], held_out.tokens[odd]
    n = min(len(halves[0]), len(halves[1]), calibration.n_sequences)
    if n * held_out.length < LEAST_TOKENS or n * calibration.length < LEAST_TOKENS:
        return None
    # As much text on every side: more counts would guess better whatever their kind.
    first, second, chosen = halves[0][:n], halves[1][:n], calibration.tokens[:n]
    own = (_entropy(first, second) + _entropy(second, first)) / 2
    other = (_entropy(first, chosen) + _entropy(second, chosen)) / 2
    return other - own


def unlikeness(calibration: TextSet, held_out: TextSet) -> str | None:
    """What to tell where the two texts are of different kinds, in one sentence; None where not.

    Args:
        calibration: Sequences that choose.
        held_out: Sequences that judge.
    """
    apart = token_distance(calibration, held_out)
    if apart is None or apart < UNLIKE:
        return None
    return (
        f"the held-out text is unlike the calibration text (its tokens are {apart:.1f} nats harder"
        " to guess from it than from text of its own kind): a cut is best for text like that which"
        " chose it, so name text like what the model will read (--calibration), or a mixture"
    )


def _entropy(tokens: Tokens, counted: Tokens) -> float:
    """Cross-entropy of tokens under the smoothed counts of others, nats per token."""
    types = np.union1d(tokens, counted)
    counts = np.bincount(np.searchsorted(types, counted.ravel()), minlength=len(types)) + 0.5
    chances = np.log(counts / counts.sum())
    return -float(chances[np.searchsorted(types, tokens.ravel())].mean())
