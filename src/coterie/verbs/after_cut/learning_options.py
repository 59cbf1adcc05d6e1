"""How a cut model learns, within which memory, and when it ends before its time."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from coterie.verbs.options.declare import Option, Options


def _modes() -> Iterable[str]:
    # Imported when it is asked for, as are all modules below that a help text does not need.
    from coterie.healing.modes import MODES

    return MODES


@dataclass(frozen=True, kw_only=True)
class LearningOptions(Options):
    """How the cut model learns."""

    mode: Annotated[
        str,
        Option(
            "--mode",
            "NAME",
            "`lora`: adapters, merged at the end; `full`: all kept weights; `last`: the last kept "
            "layers, their norm and the head; `gaps`: the layers around each gap.",
            choices=_modes,
        ),
    ] = "lora"
    last: Annotated[
        int, Option("--last", "K", "Layers that --mode last trains, from the end.", above=0)
    ] = 3
    rank: Annotated[int, Option("--rank", "N", "Rank of the adapters.", above=0)] = 32
    steps: Annotated[int, Option("--steps", "N", "Optimiser steps.", above=0)] = 200
    minutes: Annotated[
        float | None,
        Option(
            "--minutes",
            "T",
            "Most minutes of training: fewer steps if all would take longer.",
            above=0,
        ),
    ] = None
    batch: Annotated[int, Option("--batch", "N", "Sequences per step.", above=0)] = 8
    learning_rate: Annotated[
        float | None,
        Option(
            "--learning-rate",
            "R",
            "Learning rate at its peak. Default: 0.002 for lora and 0.0005 for full at width 160, "
            "as measured on `reference`, and in inverse proportion to the width above.",
            above=0,
        ),
    ] = None
    # Named as the option and the record are; inside, a run of cut layers is a gap.
    seams: Annotated[
        float,
        Option(
            "--seams",
            "W",
            "Weight of the hidden states after each gap, beside the KL of the predictions.",
            least=0,
        ),
    ] = 0.0
    cross_entropy: Annotated[
        float,
        Option(
            "--cross-entropy",
            "W",
            "Weight of the text itself, beside the KL of the predictions.",
            least=0,
        ),
    ] = 0.0
    sweep: Annotated[
        bool,
        Option(
            "--sweep",
            "",
            "First try five learning rates about that one, 16 steps each on the same batches, and "
            "take the best.",
        ),
    ] = False


@dataclass(frozen=True, kw_only=True)
class ThriftOptions(Options):
    """How a healing fits into memory, and when it ends before its time."""

    parts: Annotated[
        int,
        Option(
            "--parts",
            "N",
            "Read each batch in N parts and add their gradients up: the same step in less memory.",
            above=0,
        ),
    ] = 1
    recompute: Annotated[
        bool,
        Option(
            "--recompute",
            "",
            "Compute the layers again on the way back instead of keeping what is inside them "
            "(gradient checkpointing).",
        ),
    ] = False
    dtype: Annotated[
        str,
        Option(
            "--dtype",
            "NAME",
            "What is computed in: auto; float32; bfloat16: forward and backward passes, weights "
            "that move stay float32.",
            choices=lambda: ("auto", "float32", "bfloat16"),
        ),
    ] = "auto"
    watch: Annotated[
        str | None,
        Option(
            "--watch",
            "TEXT",
            "Text unlike the one that is learned from: its loss is measured ten times, learning "
            "stops where it gets worse twice in a row, and the best weights are kept. Documents "
            "that judge or teach are left out.",
            path=True,
        ),
    ] = None
