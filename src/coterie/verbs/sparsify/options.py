"""How much of the weights goes, how it is shared out, and which weights go."""

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from coterie.game.estimation.estimators import WINDOW
from coterie.sparsity.bounds import LEAST, MOST
from coterie.sparsity.pruners import PRUNERS
from coterie.verbs.options.declare import Option, Options
from coterie.verbs.sparsify.rules import RULES

Measuring = Literal["auto", "exact", "surrogate", "window"]
"""Where contributions come from."""

# The same words for the type checker and for the command line.
CONTRIBUTIONS: tuple[Measuring, ...] = get_args(Measuring)

WIDEST = 16
"""Layers in a window of the sliding-window Shapley value at most; `WINDOW` by default."""


@dataclass(frozen=True, kw_only=True)
class SparsityOptions(Options):
    """How sparse, and by what rule."""

    sparsity: Annotated[
        float | None,
        Option(
            "--sparsity",
            "S",
            "Share of the weights in all linear maps of the layers that become zero, in [0, 1).",
        ),
    ] = None
    pattern: Annotated[
        str | None,
        Option(
            "--pattern",
            "N:M",
            "Or: of every M neighbouring weights N stay, such as 2:4. Under a rule other than "
            "`uniform` each layer has an N of its own, N:M on average.",
        ),
    ] = None
    allocation: Annotated[
        str,
        Option(
            "--allocation",
            "RULE",
            "How the target is shared out: `sv-nup` (by each layer's Shapley value, "
            "arXiv:2505.01731), `sv-nup-window` (by sliding windows), `guided` (search from "
            "there), `mixed` (cut whole layers too), `owl` (arXiv:2310.05175), `ecoflap` (in the "
            "style of arXiv:2310.02998), `uniform`.",
            choices=lambda: RULES,
        ),
    ] = "sv-nup"
    pruner: Annotated[
        str,
        Option(
            "--pruner",
            "NAME",
            "Which weights of a map go: `wanda`, `sparsegpt` (slower; the others make up for "
            "them), `magnitude`.",
            choices=lambda: PRUNERS,
        ),
    ] = "wanda"
    contributions: Annotated[
        str,
        Option(
            "--contributions",
            "HOW",
            "Of `sv-nup`, `guided`, `mixed`: `exact`, `surrogate` (see --budget), `window` (see "
            "--window); `auto` is `exact` for up to 10 layers (or blocks) that are not locked, "
            "else `surrogate`.",
            choices=lambda: CONTRIBUTIONS,
        ),
    ] = "auto"
    window: Annotated[int, Option("--window", "W", "Layers in a sliding window, 1 to 16.")] = WINDOW
    least: Annotated[float, Option("--least", "S", "Least sparsity a layer may have.")] = LEAST
    most: Annotated[float, Option("--most", "S", "Most sparsity a layer may have.")] = MOST
    pruning_sequences: Annotated[
        int | None,
        Option(
            "--pruning-sequences",
            "N",
            "Sequences of the calibration text that `wanda`, `sparsegpt` and `owl` measure on, "
            "those of --sequences among them. Default: 128; for `sparsegpt` ten tokens for every "
            "input of the widest map where that is more, up to 2,048 sequences; all there are "
            "where the text has fewer.",
        ),
    ] = None
