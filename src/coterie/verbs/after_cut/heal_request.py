"""What `heal` is asked for."""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Annotated, ClassVar

from coterie.errors import UserError
from coterie.plain import Json
from coterie.verbs.after_cut.judging import JudgedAsTheCut, OriginOptions
from coterie.verbs.after_cut.learning_options import LearningOptions, ThriftOptions
from coterie.verbs.options.declare import Option, declared
from coterie.verbs.options.machine import Device
from coterie.verbs.options.search import Seed
from coterie.verbs.options.source import Model, Trust
from coterie.verbs.options.texts import Lesson


@dataclass(frozen=True, kw_only=True)
class TeacherOptions(OriginOptions):
    """Who teaches, and what is kept of it."""

    teacher_cache: Annotated[
        str | None,
        Option(
            "--teacher-cache",
            "DIR",
            "Folder for what the teacher predicts on the training text: it is asked once, and the "
            "cut model learns with nothing else in memory. Made if it is not there, good for every "
            "later healing on the same text.",
            path=True,
        ),
    ] = None
    teacher_top: Annotated[
        int | None,
        Option(
            "--teacher-top",
            "K",
            "Most likely tokens kept of each prediction, the others taken together. Default: 256, "
            "in 2 KB per token.",
            above=0,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class HealRequest(
    Trust,
    Device,
    Seed,
    JudgedAsTheCut,
    ThriftOptions,
    LearningOptions,
    Lesson,
    TeacherOptions,
    Model,
):
    """How to heal a checkpoint.

    Args:
        model: Folder of the cut checkpoint.
        teacher: The model it was cut from; None is what its `coterie.json` names.
        teacher_cache: Folder for what the teacher predicts, made if it is not there: it is asked
            once, and only the cut model is in memory while that learns. None asks it every step.
        teacher_top: Most likely tokens that are kept of every prediction; None is 256.
        revision: Branch, tag or commit of that model on the Hub.
        text: Text to learn from; None is the reference model's training text, for others C4.
        calibration: Text that chose the cut; without ``held_out``, part of it judges.
        held_out: Text that judges; None is what judged the cut.
        mode: ``"lora"`` trains adapters of ``rank`` and merges them, ``"full"`` every weight kept,
            ``"last"`` the ``last`` layers and the head, ``"gaps"`` the layers around each gap.
        steps: Optimiser steps of ``batch`` sequences; ``minutes`` bounds them.
        learning_rate: At its peak; None is measured on the reference model, less for wider ones.
        seams: Weight of the hidden states where layers were cut, beside the KL of the predictions.
        cross_entropy: Weight of the text itself, beside them.
        sweep: Whether several learning rates are tried first.
        parts: Each batch is read in so many parts.
        recompute: Whether layers are computed again on the way back, to save memory.
        dtype: What is computed in.
        watch: Text that stops learning where its loss gets worse.

    >>> HealRequest("small", mode="full", steps=50).as_json()["steps"]
    50
    """

    VERB = "heal"
    # Said in the command that a report shows, even where they have their default values.
    TOLD: ClassVar = frozenset({"mode", "rank", "steps", "batch", "device"})

    def check(self) -> None:
        """Refuse what can be refused before anything is loaded.

        Raises:
            UserError: one clear line about the first thing that is wrong.
        """
        # Each group of options checks its own values; here is what concerns several.
        super().check()
        check_teacher(self, self.seams)
        check_mode(self.mode)
        if self.last != 3 and self.mode != "last":
            raise self.refusal()(f"--last {self.last} goes with --mode last alone: leave it out")
        if self.parts > self.batch:
            raise self.refusal()(
                f"--parts {self.parts} is more than the {self.batch} sequences of a batch: give at"
                " most one part a sequence"
            )

    def as_json(self) -> dict[str, Json]:
        """What was asked as plain JSON."""
        whole = super().as_json()
        # Options that came later are left out where unused: older records stay equal.
        for one in declared(ThriftOptions):
            if getattr(self, one.name) == one.default:
                del whole[one.name]
        for name, default in (("last", 3), ("cross_entropy", 0.0), ("sweep", False)):
            if whole[name] == default and not (name == "last" and self.mode == "last"):
                del whole[name]
        return whole

    def refusal(self) -> type[UserError]:
        """The kind of error that a value is refused with."""
        from coterie.healing.origin import HealError

        return HealError


def check_teacher(teacher: TeacherOptions, gaps: float) -> None:
    """Refuse what a cache of the teacher's predictions cannot give.

    Args:
        teacher: Who teaches.
        gaps: Weight of the teacher's hidden states after each gap; 0 asks for none.

    Raises:
        HealError: one line.
    """
    from coterie.healing.origin import HealError

    # Without a cache the teacher predicts the whole vocabulary at every step.
    if teacher.teacher_cache is None and teacher.teacher_top is not None:
        raise HealError(
            f"--teacher-top {teacher.teacher_top} says what a cache keeps: name one with"
            " --teacher-cache DIR, or leave it out"
        )
    if teacher.teacher_cache is not None and gaps:
        raise HealError(
            f"--seams {gaps:g} needs the hidden states of the full model, and --teacher-cache"
            " keeps its predictions alone: leave out one of the two"
        )


def check_mode(name: str) -> None:
    """Refuse a mode whose library is not installed.

    Raises:
        HealError: it is not.
    """
    from coterie.healing.modes import MODES
    from coterie.healing.origin import HealError

    package = MODES[name].package
    if package is not None and find_spec(package) is None:
        # A way out that needs no installation, where the table has one.
        others = " or ".join(name for name, mode in MODES.items() if mode.package is None)
        raise HealError(
            f"--mode {name} needs {package}, which is not installed: pip install 'coterie[heal]',"
            f" or take --mode {others}"
        )
