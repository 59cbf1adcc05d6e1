"""What lets a reader try other cuts of a finished run: sizes of players, and a fitted stand-in."""

from dataclasses import dataclass

from coterie.report.schema.part import Part


@dataclass(frozen=True)
class PlayerSizesPart(Part):
    """What each player weighs, in the order of the players."""

    # Bytes are those of the source's dtype: a player's share of the files.
    parameters: list[int]
    bytes: list[int]


@dataclass(frozen=True)
class PlayerTimesPart(Part):
    """How long each player takes in a pass over calibration text, as measured on this machine."""

    # Medians over a few passes of the whole model, without a cache.
    seconds: list[float]
    rest: float
    """Of everything that is no player: embedding, head."""
    tokens: int
    """Tokens of one pass."""


@dataclass(frozen=True, kw_only=True)
class PredictorPart(Part):
    """A Gaussian process fitted to what the run observed, as numbers that a page can add up.

    The loss of a cut above the full model is ``constant``, plus ``single`` of every player that is
    cut, plus ``pairs`` of every two, plus what resembles coalitions that were observed:
    Σ ``weights`` × exp(−players that differ / ``length``).
    """

    surrogate: str
    unit: str
    full: float
    """Loss of the full model on the calibration texts."""
    constant: float
    single: list[float]
    pairs: list[float]
    """Row by row above the diagonal: (0, 1), (0, 2), …, (1, 2), …"""
    length: float
    weights: list[float]
    """One for each coalition in `cuts`."""
    # What was observed: the full model first, then by players cut.
    cuts: list[list[int]]
    losses: list[float | None]
    """Loss above the full model; null where races ended before every text was read."""
    errors: list[float | None]
    """Standard errors of these, paired over documents."""
    deviations: list[float]
    """Typical miss on coalitions left out of the fit, by the number of players cut, from none."""
    deepest: int
    """Most players cut of what was observed: beyond it the prediction is a guess."""
