"""Which texts choose the cut, and which judge it."""

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from coterie.errors import UserError
from coterie.verbs.options.declare import Option, Options

BosPolicy = Literal["auto", "always", "never"]
# Read off the type: words and type cannot drift apart.
_BOS: tuple[BosPolicy, ...] = get_args(BosPolicy)


@dataclass(frozen=True, kw_only=True)
class JudgingOptions(Options):
    """The text that chose a cut, and the text that judges."""

    # The default depends on the model, which is not known before it is opened.
    calibration: Annotated[
        str | None,
        Option(
            "--calibration",
            "TEXT",
            "Text that decides: a .txt, .jsonl, .csv or .parquet FILE[:COLUMN], a Hub data set "
            "`name[:config[:split[:column]]]`, a mixture `a=0.7,b=0.3`, or `stdlib`. Default: C4 "
            "for Hub models, `stdlib` for `reference`.",
            path=True,
        ),
    ] = None
    # Kept apart from calibration by whole documents, so no text both chooses and judges.
    held_out: Annotated[
        str | None,
        Option(
            "--held-out",
            "TEXT",
            "Text that judges, never used to choose. Default: whole documents of your "
            "calibration file set aside; WikiText-2 test beside C4; the other half of `stdlib`.",
            path=True,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Bos(Options):
    """What stands before every sequence."""

    bos: Annotated[
        str,
        Option(
            "--bos",
            "WHEN",
            "Begin every sequence with BOS: `auto` (as the tokenizer), `always`, `never`.",
            choices=lambda: _BOS,
        ),
    ] = "auto"

    def bos_policy(self) -> BosPolicy:
        """What stands before every sequence.

        Raises:
            UserError: none of the policies there are.
        """
        # Compared one by one: the loop narrows str to the literal type without a cast.
        for policy in _BOS:
            if self.bos == policy:
                return policy
        raise UserError(f"--bos {self.bos} is unknown: there is {', '.join(_BOS)}")


@dataclass(frozen=True, kw_only=True)
class Texts(Bos, JudgingOptions):
    """The sequences that choose, and those that judge."""

    # Left open: the default depends on the method, and the method on the request.
    sequences: Annotated[
        int | None,
        Option(
            "--sequences",
            "N",
            "Calibration sequences. Default: 10 for the paper's method; 32 for the others, which "
            "decide between their finalists on as many more, of other documents.",
            above=0,
        ),
    ] = None
    length: Annotated[
        int | None,
        Option(
            "--length",
            "TOKENS",
            "Tokens of every sequence. Default: 128, or the model's context where that is shorter.",
            least=2,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Lesson(Options):
    """The text that is learned from."""

    text: Annotated[
        str | None,
        Option(
            "--text",
            "TEXT",
            "Text to learn from, as in `prune --calibration`. Default: the file that chose the "
            "layers; else C4, for `reference` the library modules it was trained on. Documents "
            "that also judge are left out.",
            path=True,
        ),
    ] = None
