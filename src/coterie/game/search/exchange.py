"""Search among coalitions below a ceiling of cost, from answers that are known to be good.

Players cost unequally, so coalitions compete whatever their size. As in guided search a Gaussian
process learns the game while it is played; what it draws is climbed by exchanges that keep below
the ceiling, and the most promising are observed. The starts are among the finalists, so the
search never ends below them on the texts it saw.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coterie.game.coalitions import Coalition, Coalitions, Vector, distinct
from coterie.game.search.ceiling import (
    Ceiling,
    PairwiseModels,
    climb_below,
    drawn_below,
    exchanges,
)
from coterie.game.search.decide import close_of
from coterie.game.search.guided import DRAWS, GROWTH, HOPELESS, WORTH_ASKING, promising
from coterie.game.search.learner import Learner
from coterie.game.search.ledger import Ledger
from coterie.game.search.plain import Answer, absences
from coterie.game.search.race import Judge, in_full, least_texts
from coterie.game.surrogates.process import ProcessPredictor

CENTRES = 3  # of the tops of draws, how many have their exchanges looked at too
BATCH = 8  # coalitions observed per round, and at least a share of all that is known

Legal = Callable[[Coalitions], NDArray[np.bool_]]
"""Says which coalitions may be chosen, ``(n_coalitions,)``, whatever they cost."""


@dataclass(frozen=True)
class ExchangeSettings:
    """How much the search may ask beyond what is known.

    Attributes:
        budget: Distinct coalitions that it may add to the ledger.
        most_executed: No question is asked that might bring the players × texts executed above
            this; the starts are asked all the same.
        patience: Rounds in a row that improve nothing before it rests.
    """

    budget: int
    most_executed: float
    patience: int = 8


@dataclass(frozen=True, eq=False)
class Exchanges:
    """One search below one ceiling.

    Attributes:
        ledger: Asks the game and remembers; what it holds already is used.
        ceiling: What may be kept.
        legal: What may be chosen whatever it costs.
        settings: How much may be asked.
        judge: How candidates are compared with the best known.
    """

    ledger: Ledger
    ceiling: Ceiling
    legal: Legal
    settings: ExchangeSettings
    judge: Judge = in_full

    def search(self, starts: Coalitions, *, rng: np.random.Generator) -> None:
        """Ask the starts, then round by round whatever is expected to be better.

        Args:
            starts: Allowed coalitions, the best first, ``(n_starts, n_players)``.
            rng: Draws from the process, and starts of climbs.
        """
        end = self.ledger.n_asked + self.settings.budget
        self.ledger.value(starts)
        self._look_around(end)
        learner, quiet, hopeless = Learner(self.ledger, rng=rng), 0, 0
        while quiet < self.settings.patience and hopeless < HOPELESS:
            batch, gain = self._proposals(learner.learn(), learner, rng)
            batch = batch[: self._affordable(self.ledger.n_sequences, end)]
            if not len(batch):
                return
            best, before = self.best()
            self.judge(self.ledger, np.concatenate([best[None], batch]))
            improved = self.best()[1] - before > WORTH_ASKING
            quiet = 0 if improved else quiet + 1
            hopeless = hopeless + 1 if gain < WORTH_ASKING else 0

    def known(self) -> tuple[Coalitions, Vector]:
        """The allowed coalitions asked on all texts, in order, and their values."""
        coalitions, values = self.ledger.known()
        may = self._may(coalitions)
        return coalitions[may], values[may]

    def best(self) -> tuple[Coalition, float]:
        """The best of these; the first if equal."""
        coalitions, values = self.known()
        row = int(values.argmax())
        return coalitions[row], float(values[row])

    def finalists(self, name: str, most: int) -> list[Answer]:
        """The best known, and those that the texts cannot tell from it.

        Args:
            name: What the answers are called.
            most: How many at most.
        """
        found = close_of(self.ledger, *self.known(), most=most)
        return [Answer(name, one.coalition, one.value) for one in found]

    def _may(self, coalitions: Coalitions) -> NDArray[np.bool_]:
        return self.ceiling.allows(coalitions) & self.legal(coalitions)

    def _affordable(self, n_texts: int, end: int) -> int:
        """How many coalitions may be asked on so many texts."""
        spare = self.settings.most_executed - self.ledger.layers_executed
        each = n_texts * self.ledger.n_players
        return max(0, int(min(end - self.ledger.n_asked, spare // each)))

    def _look_around(self, end: int) -> None:
        """Ask, on a few texts, the best with each player flipped, and each player's absence."""
        n_texts = least_texts(self.ledger.n_sequences)
        best, _ = self.best()
        flips = (best ^ np.eye(len(best), dtype=bool))[self.ceiling.movable]
        alone = absences(len(best), locked=self.ceiling.locked)
        for few in (flips, alone):
            new = few[~self.ledger.met(few)][: self._affordable(n_texts, end)]
            if len(new):
                self.ledger.losses(new, np.arange(n_texts))
        # What is met is not proposed again, so those that might win compete now.
        flips = flips[self._may(flips)][: self._affordable(self.ledger.n_sequences, end)]
        self.judge(self.ledger, np.concatenate([best[None], flips]))

    def _proposals(
        self, model: ProcessPredictor, learner: Learner, rng: np.random.Generator
    ) -> tuple[Coalitions, float]:
        """Coalitions worth observing next, the most promising first, and its expected gain."""
        best, value = self.best()
        drawn = PairwiseModels(*model.pairwise_samples(DRAWS, rng=rng))
        again = drawn.some(np.tile(np.arange(DRAWS), 2))
        fresh = drawn_below(self.ceiling, DRAWS, rng=rng)
        starts = np.concatenate([np.repeat(best[None], DRAWS, axis=0), fresh])
        tops = climb_below(again, starts, self.ceiling)
        centres = tops[np.argsort(-model.predict(tops), kind="stable")[:CENTRES]]
        near = self._around(model, np.concatenate([best[None], centres]))
        pool = np.concatenate([tops, near])
        pool = pool[distinct(pool)[0]]
        pool = pool[self._may(pool) & ~self.ledger.met(pool)]
        if not len(pool):
            return pool, 0.0
        most = max(BATCH, int(GROWTH * self.ledger.n_asked))
        batch, gains = promising(model, learner.scale, pool, value, most)
        return batch, float(gains[0])

    def _around(self, model: ProcessPredictor, centres: Coalitions) -> Coalitions:
        """Every exchange of some coalitions, as the process expects the game to be."""
        _, single, upper = model.effects
        n = len(centres)
        expected = PairwiseModels(
            np.repeat(single[None], n, axis=0), np.repeat((upper + upper.T)[None], n, axis=0)
        )
        states = exchanges(expected, (~centres).astype(np.float64), self.ceiling)
        return states.reshape(-1, centres.shape[1]) == 0
