"""What `evaluate` is asked for: which models, on which texts and tasks."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from coterie.errors import UserError
from coterie.verbs.options.declare import Option, Options
from coterie.verbs.options.forms import FRACTION
from coterie.verbs.options.machine import Device, Dtype
from coterie.verbs.options.search import Seed
from coterie.verbs.options.source import Models, Trust, check_models
from coterie.verbs.options.tasks import Tasks, check_limit
from coterie.verbs.options.texts import Bos

LENGTH = 128
SEQUENCES = 256
"""Most windows of a text: at 2,048 tokens the whole of WikiText-2's test half."""


@dataclass(frozen=True, kw_only=True)
class WindowOptions(Options):
    """The texts that are read, in which pieces."""

    texts: Annotated[
        tuple[str, ...],
        Option(
            "--text",
            "TEXT",
            "Held-out text, may be given again: `wikitext-2`, `c4`, `ptb`, `stdlib`, a FILE, or a "
            "Hub data set. Default without --tasks: what judged the first model, or would in "
            "`coterie prune`.",
            path=True,
        ),
    ] = ()
    length: Annotated[
        int, Option("--length", "TOKENS", "Tokens of a sequence: 128, 2048, 4096.", least=2)
    ] = LENGTH
    sequences: Annotated[
        int, Option("--sequences", "N", "Most sequences of each text.", least=1)
    ] = SEQUENCES
    as_judged: Annotated[
        bool,
        Option(
            "--as-judged",
            "",
            "Read the very texts that judged the first model, as its coterie.json tells: repeats "
            "its report to the digit. Usual where no text, length or task is named.",
        ),
    ] = False
    batch: Annotated[int, Option("--batch", "N", "Task items at a time.", least=1)] = 8


@dataclass(frozen=True, kw_only=True)
class PairingOptions(Options):
    """How two models are told apart, item by item."""

    margin: Annotated[
        float,
        Option(
            "--margin",
            "SHARE",
            "A model is `not worse` where it is shown, with 95 % confidence, to score lower by"
            " less: 0.01 or 1%.",
            form=FRACTION,
            above=0,
        ),
    ] = 0.01
    logs: Annotated[
        bool,
        Option(
            "--logs",
            "",
            "The arguments are folders of `lm_eval --log_samples`, not models: compare what is in"
            " them, item by item.",
        ),
    ] = False


@dataclass(frozen=True, kw_only=True)
class EvaluateRequest(
    Trust, Seed, Dtype, Device, Bos, PairingOptions, WindowOptions, Tasks, Models
):
    """Which models, on which texts and tasks.

    Args:
        models: Hub ids, local folders or ``"reference"``; the first is compared with.
        texts: Presets (``wikitext-2``, ``c4``, ``ptb``) or any text spec; empty for the default
            where no task is named.
        tasks: Names of lm-evaluation-harness or of the folder; ``paper`` is the paper's eight.
        limit: Only the first items of each task.
        length: Tokens of a window, BOS counted.
        sequences: Most windows of each text.
        as_judged: Read the very texts that judged the first model.
        batch: Task items at a time.
        margin: A model is not worse where it is shown to score lower by less than this share.
        logs: The models are folders of `lm_eval --log_samples`, read by `compare_logs`.

    >>> EvaluateRequest(("reference", "small"), length=2048).command()
    'coterie evaluate reference small --length 2048'
    """

    VERB = "evaluate"
    # Where one option means something else than in other verbs.
    HELP: ClassVar = {"dtype": "Of the models: auto, float32, bfloat16."}

    @property
    def names_windows(self) -> bool:
        """Whether windows of running text are asked for, by their length or number."""
        return (self.length, self.sequences) != (LENGTH, SEQUENCES)

    @property
    def repeats_judging(self) -> bool:
        """Whether what judged the first model is read."""
        return self.as_judged or not (self.texts or self.tasks or self.names_windows)

    def check(self) -> None:
        """Refuse what can be refused before anything is loaded.

        Raises:
            UserError: one clear line about the first thing that is wrong.
        """
        # Models first: a name that is wrong there explains most other refusals.
        check_models(self.models)
        super().check()
        if self.as_judged and (self.texts or self.names_windows):
            raise UserError(
                "--as-judged reads the texts that judged before: leave out --text, --length and"
                " --sequences"
            )
        check_limit(self.limit)
        if self.logs:
            self._check_logs()

    def _check_logs(self) -> None:
        if len(self.models) < 2:
            raise UserError("--logs compares two folders or more: name another one")
        if self.tasks or self.texts or self.limit is not None:
            raise UserError("--logs scores no model: leave out --tasks, --text and --limit")
