"""Which cuts by whole layers all of some runtimes read rightly, and the one nearest to another."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from transformers import PretrainedConfig

from coterie.errors import CutError
from coterie.models.families.family import Kept
from coterie.models.families.fields import text_config
from coterie.models.runtimes.rule import LayerRule
from coterie.models.runtimes.table import RULES

_NEVER = -1e9
"""Weight of what must not be."""


@dataclass(frozen=True)
class Serving:
    """What some runtimes ask of a cut of one model.

    Attributes:
        config: The part of its config that describes the decoder.
        rules: The rules that bind, each with its runtime; a runtime without one takes any cut.
        n_layers: Layers of the whole model.
    """

    config: PretrainedConfig
    rules: tuple[tuple[str, LayerRule], ...]
    n_layers: int

    @property
    def restricts(self) -> bool:
        """Whether some cuts are read wrongly."""
        return bool(self.rules)

    def misread(self, kept: Sequence[int], *, carried: bool = False) -> str | None:
        """Who reads the model that keeps these layers wrongly, and why; None where nobody does.

        Args:
            kept: The layers that stay.
            carried: Whether the file will say what it can say of its layers.
        """
        for runtime, rule in self.rules:
            if not (carried and rule.carried) and not self._holds(rule, kept):
                return f"{runtime} {rule.why}"
        return None

    def _holds(self, rule: LayerRule, kept: Sequence[int]) -> bool:
        if not rule.counts(self.config, len(kept)):
            return False
        listed = rule.listed(self.config)
        if rule.every_kind and {listed[layer] for layer in kept} != set(listed):
            return False
        if rule.kinds is None:
            return True
        return tuple(listed[layer] for layer in kept) == rule.kinds(self.config, len(kept))

    def allowed(self, coalitions: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which coalitions of kept layers, ``(n_coalitions, n_layers)``, all read right."""
        return np.array(
            [self.misread(np.flatnonzero(row).tolist()) is None for row in coalitions], dtype=bool
        )

    def best(
        self, weights: NDArray[np.float64], n_kept: int, locked: Sequence[int] = ()
    ) -> Kept | None:
        """The readable cut to a size that keeps the most weight; None where there is none.

        Args:
            weights: What keeping each layer is worth, ``(n_layers,)``.
            n_kept: Layers that stay.
            locked: Layers that must.
        """
        if not all(rule.counts(self.config, n_kept) for _, rule in self.rules):
            return None
        heaviest = self._heaviest(weights, n_kept, locked)
        if heaviest is None or self.misread(heaviest) is None:
            return heaviest
        # It lacks a kind of layer: the heaviest that has one of its layers.
        others = (
            self._heaviest(weights, n_kept, (*locked, layer)) for layer in range(self.n_layers)
        )
        right = [one for one in others if one is not None and self.misread(one) is None]
        return max(right, key=lambda one: float(weights[list(one)].sum()), default=None)

    def _heaviest(
        self, weights: NDArray[np.float64], n_kept: int, locked: Sequence[int]
    ) -> Kept | None:
        fits = self._fits(n_kept)
        bound = np.abs(weights).sum() + 1.0
        gains = weights.astype(float).copy()
        gains[list(locked)] += bound * (1 + len(weights))
        kept = _heaviest(gains, fits)
        return kept if kept is not None and set(locked) <= set(kept) else None

    def nearest(self, kept: Sequence[int], locked: Sequence[int] = ()) -> Kept | None:
        """The readable cut that differs least from one, of the same size if there is one.

        Args:
            kept: The layers that would stay.
            locked: Layers that must stay.
        """
        weights = np.zeros(self.n_layers)
        weights[list(kept)] = 1.0
        # Beside what was asked for, the middle of a model is missed least.
        weights += 1e-3 * np.abs(np.linspace(-1.0, 1.0, self.n_layers))
        sizes = sorted(range(1, self.n_layers), key=lambda size: abs(size - len(kept)))
        found = (self.best(weights, size, locked) for size in sizes)
        return next((one for one in found if one is not None), None)

    def _fits(self, n_kept: int) -> NDArray[np.bool_]:
        """Whether a layer may stand at a place of the cut model, ``(n_kept, n_layers)``."""
        fits = np.ones((n_kept, self.n_layers), dtype=bool)
        for _, rule in self.rules:
            if rule.kinds is not None:
                listed, derived = rule.listed(self.config), rule.kinds(self.config, n_kept)
                fits &= np.array([[one == other for other in listed] for one in derived])
        return fits


def serving_of(config: PretrainedConfig, runtimes: Sequence[str], n_layers: int) -> Serving:
    """What runtimes ask of a cut of this model by whole layers.

    Args:
        config: Of the whole model.
        runtimes: Names out of `RUNTIMES`.
        n_layers: Layers of the whole model.
    """
    text = text_config(config)
    rules = [(name, rule) for name in runtimes for rule in RULES[name].get(text.model_type, ())]
    return Serving(text, tuple(rules), n_layers)


def check_served(serving: Serving, kept: Sequence[int], locked: Sequence[int] = ()) -> None:
    """Refuse a cut that a runtime would read wrongly, and name the nearest one that it reads right.

    Args:
        serving: What runtimes ask.
        kept: The layers that stay.
        locked: Layers that must stay in the cut that is named.

    Raises:
        CutError: one line.
    """
    why = serving.misread(kept)
    if why is None:
        return
    near = serving.nearest(kept, locked)
    gone = [] if near is None else sorted(set(range(serving.n_layers)) - set(near))
    way_out = (
        "no cut of this model is right there: leave it out of --serve"
        if near is None
        else f"the nearest cut that is right there: --layers {','.join(map(str, gone))}"
    )
    raise CutError(f"this cut would be read wrongly: {why}; {way_out}")


def _heaviest(gains: NDArray[np.float64], fits: NDArray[np.bool_]) -> Kept | None:
    """The ascending choice of a layer for every place with the greatest sum of gains."""
    n_kept, n_layers = fits.shape
    # best[j, i]: the first j places filled from the first i layers.
    best = np.full((n_kept + 1, n_layers + 1), _NEVER * n_layers)
    best[0] = 0.0
    taken = np.zeros_like(best, dtype=bool)
    for place in range(n_kept):
        for layer in range(n_layers):
            left = best[place + 1, layer]
            take = best[place, layer] + (gains[layer] if fits[place, layer] else _NEVER * n_layers)
            taken[place + 1, layer + 1] = take > left
            best[place + 1, layer + 1] = max(take, left)
    if best[n_kept, n_layers] < _NEVER / 2:
        return None
    chosen, layer = [], n_layers
    for place in range(n_kept, 0, -1):
        while not taken[place, layer]:
            layer -= 1
        layer -= 1
        chosen.append(layer)
    return tuple(reversed(chosen))
