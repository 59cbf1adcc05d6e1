"""The published method from top to bottom (Ding et al. 2026, arXiv:2602.07804), in four steps.

1. Draw coalitions of a few sizes near the full model: 8,000 draws for 32 layers, in equal shares
   over those that lack 2, 5, 8, 11 and 14 of them.
2. Observe each on calibration text. Its value is v(S) = PPL(full) / PPL(S): 1 for the full model,
   towards 0 as S fails.
3. Fit a surrogate f ≈ v to these values: a small network of one hidden layer.
4. Over 80,000 base coalitions m of the same sizes, a layer contributes
   φ_i = mean over sizes of mean over m of f(m ∪ i) − f(m \\ i). Cut those of the lowest φ.

The errors beside φ are ours: see `coterie.game.estimation.refits`. `coterie.game.study` takes the
same steps with what a long run on a model needs besides: bounds, checks, progress.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from coterie.game.coalitions import Coalition, Game, Indices, Observations, Vector, observe_all
from coterie.game.designs import NO_ONE, Stratum, draw_strata
from coterie.game.estimation.contributions import (
    REPLICATES,
    Contributions,
    SemivaluePlan,
    contributions,
)
from coterie.game.estimation.refits import Sample
from coterie.game.published import paper_draws, published_sizes
from coterie.game.search.plain import cut_lowest
from coterie.game.surrogates import Surrogate
from coterie.game.surrogates.paper import PaperNetwork
from coterie.game.utilities import UTILITIES, Utility, read


@dataclass(frozen=True, eq=False)
class Published:
    """What the published method concludes of a game."""

    coalition: Coalition
    """The players that stay, ``(n_players,)``."""
    contributions: Contributions
    strata: list[Stratum]

    @property
    def values(self) -> Vector:
        """φ, ``(n_players,)``; NaN for a locked player."""
        return self.contributions.estimate.values


def published_method(
    game: Game,
    keep: int,
    *,
    locked: Indices = NO_ONE,
    surrogate: Surrogate | None = None,
    replicates: int = REPLICATES,
    rng: np.random.Generator,
) -> Published:
    """Play the published method on any game.

    Args:
        game: Its losses are read as mean negative log-likelihoods, one document per sequence.
        keep: Players that stay.
        locked: Players that stay whatever they contribute.
        surrogate: Instead of the published network.
        replicates: Refits behind each of the two errors.
        rng: Draws the strata, the refits and the base coalitions.

    Examples:
        >>> from coterie.game.surrogates.pairwise import Pairwise
        >>> from coterie.game.toy import additive
        >>> game = additive(np.array([0.3, 0.1, 0.2, 0.0, 0.4, 0.5, 0.6, 0.7]))
        >>> rng = np.random.default_rng(0)
        >>> found = published_method(game, 5, surrogate=Pairwise(), replicates=4, rng=rng)
        >>> np.flatnonzero(~found.coalition).tolist()
        [1, 2, 3]
    """
    for_design, for_estimate = rng.spawn(2)

    # Step 1: coalitions of the published sizes, scaled to this number of players.
    sizes, draws = published_sizes(game.n_players, len(locked)), paper_draws(game.n_players)
    strata = draw_strata(game.n_players, sizes, draws, locked=locked, rng=for_design)

    # Step 2: observe the full model and all of them, and read the observations as values.
    grand = np.ones((1, game.n_players), dtype=bool)
    seen = observe_all(game, np.concatenate([grand, *(s.coalitions for s in strata)]))
    documents = np.arange(game.n_sequences)
    sample, _ = evaluated(strata, seen, documents, UTILITIES["ppl-ratio"], vocabulary=2)

    # Step 3: the network, trained for as many steps as published however few coalitions there are.
    surrogate = surrogate or PaperNetwork.as_long_as_published(len(sample.coalitions), draws)

    # Step 4: what players contribute according to the surrogate, and who goes.
    plan = SemivaluePlan(sizes, locked, replicates=replicates)
    found = contributions(sample, surrogate, plan, rng=for_estimate)
    return Published(cut_lowest(found.estimate.values, keep, locked=locked), found, strata)


def evaluated(
    strata: Sequence[Stratum],
    seen: Observations,
    documents: Indices,
    utility: Utility,
    *,
    vocabulary: int,
) -> tuple[Sample, int]:
    """Step 2: strata with what was observed of them, and how many observations were not finite.

    Args:
        strata: What was drawn.
        seen: Observations of the full model, then of the strata in their order.
        documents: Which document each sequence comes from, ``(n_sequences,)``.
        utility: How observations are read as values.
        vocabulary: Tokens of the model's vocabulary; sets what is read where nothing is finite.
    """
    table, not_finite = read(seen, utility.quantity, vocabulary)
    return Sample(strata, table[1:], table[0], documents, utility.formula), not_finite
