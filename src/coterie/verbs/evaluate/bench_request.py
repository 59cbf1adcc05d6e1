"""What `bench` is asked for: which models, under which loads."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from coterie.errors import UserError
from coterie.verbs.evaluate.request import EvaluateRequest
from coterie.verbs.options.declare import Option, Options
from coterie.verbs.options.forms import DISTINCT
from coterie.verbs.options.machine import Device, Dtype
from coterie.verbs.options.search import Seed
from coterie.verbs.options.source import Models, Trust

FIGURES = (".svg", ".png", ".pdf")


@dataclass(frozen=True, kw_only=True)
class LoadOptions(Options):
    """What the models are timed on."""

    batches: Annotated[
        tuple[int, ...],
        Option("--batch", "LIST", "Texts side by side, such as 1,8.", form=DISTINCT, least=1),
    ] = (1,)
    contexts: Annotated[
        tuple[int, ...],
        Option(
            "--context",
            "LIST",
            "Tokens before the first new one: 128,512.",
            form=DISTINCT,
            least=1,
        ),
    ] = (128,)
    new_tokens: Annotated[
        int, Option("--new-tokens", "N", "Tokens generated after the context.", least=2)
    ] = 32
    rounds: Annotated[int, Option("--rounds", "N", "Timed rounds; medians count.", least=1)] = 7
    warmup: Annotated[int, Option("--warmup", "N", "Rounds before them.", least=0)] = 2


@dataclass(frozen=True, kw_only=True)
class QualityOptions(Options):
    """What is measured beside the time."""

    text: Annotated[
        str | None,
        Option("--text", "TEXT", "Text for --figure, as in evaluate.", path=True),
    ] = None
    figure: Annotated[
        Path | None,
        Option("--figure", "FILE", "Draw held-out perplexity against speed: .svg, .png."),
    ] = None


@dataclass(frozen=True, kw_only=True)
class BenchRequest(Trust, QualityOptions, Seed, Dtype, Device, LoadOptions, Models):
    """Which models, under which loads.

    Args:
        models: Hub ids, local folders or ``"reference"``; the first is compared with.
        batches: Texts side by side.
        contexts: Tokens each text starts with; every batch is measured with every context.
        new_tokens: Tokens generated after them.
        rounds: Timed rounds, after ``warmup`` that are not.
        text: Text for quality; None for the default of `evaluate`.
        figure: Where to draw perplexity against speed, or None.

    >>> BenchRequest(("reference",), batches=(1, 8)).command()
    'coterie bench reference --batch 1,8 --context 128'
    """

    VERB = "bench"
    # Where one option means something else than in other verbs.
    HELP: ClassVar = {"dtype": "Of the models: auto, float32, bfloat16."}
    # Said in the command that a report shows, even where they have their default values.
    TOLD: ClassVar = frozenset({"batches", "contexts"})

    def check(self) -> None:
        """Refuse what can be refused before anything is loaded.

        Raises:
            UserError: one clear line about the first thing that is wrong.
        """
        # First as an evaluation, whose checks cover the models and the text.
        self.judging().check()
        super().check()
        if not self.batches or not self.contexts:
            raise UserError("--batch and --context name at least one number each: write 1,8")
        check_figure(self.figure)

    def judging(self) -> EvaluateRequest:
        """The evaluation that gives the quality of these models."""
        return EvaluateRequest(
            models=self.models,
            texts=() if self.text is None else (self.text,),
            device=self.device,
            dtype=self.dtype,
            trust_remote_code=self.trust_remote_code,
            seed=self.seed,
        )


def check_figure(figure: Path | None) -> None:
    """Refuse a file that no figure can be drawn to.

    Raises:
        UserError: its format is unknown, or its folder is not there.
    """
    if figure is None:
        return
    if figure.suffix not in FIGURES:
        raise UserError(f"--figure {figure.name}: end it in {', '.join(FIGURES)}")
    if not figure.resolve().parent.is_dir():
        raise UserError(f"the folder of --figure {figure.name} is not there: make it")
