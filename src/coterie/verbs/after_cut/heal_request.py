"""What `heal` is asked for, and what is known of it before a weight is loaded."""

from dataclasses import asdict, dataclass, field
from importlib.util import find_spec

from coterie.healing.modes import MODES
from coterie.healing.origin import HealError
from coterie.models.files.sources import Source
from coterie.models.loaded.load import pick_device
from coterie.plain import Json
from coterie.report.schema.record import CheckpointRecord
from coterie.texts.sets import TextSet
from coterie.verbs.after_cut.texts import Judges
from coterie.verbs.shared.provenance import bare, versions


@dataclass(frozen=True)
class Healing:
    """How to heal a checkpoint.

    Args:
        model: Folder of the cut checkpoint.
        teacher: The model it was cut from; None is what its `coterie.json` names.
        teacher_cache: Folder for what the teacher predicts, made if it is not there: it is asked
            once, and only the cut model is in memory while that learns. None asks it every step.
        teacher_top: Most likely tokens that are kept of every prediction; None is `TOP`.
        revision: Branch, tag or commit of a teacher on the Hub.
        text: Text to learn from; None is the reference model's training text, for others C4.
        judges: Text that judges.
        mode: ``"lora"`` trains adapters of ``rank`` and merges them, ``"full"`` every weight kept.
        steps: Optimiser steps of ``batch`` sequences; ``minutes`` bounds them.
        learning_rate: At its peak; None is measured on the reference model, less for wider ones.
        seams: Weight of the hidden states where layers were cut, beside the KL of the predictions.
    """

    model: str
    teacher: str | None = None
    teacher_cache: str | None = None
    teacher_top: int | None = None
    revision: str | None = None
    text: str | None = None
    judges: Judges = field(default_factory=Judges)
    mode: str = "lora"
    rank: int = 32
    steps: int = 200
    minutes: float | None = None
    batch: int = 8
    learning_rate: float | None = None
    seams: float = 0.0
    seed: int = 0
    device: str = "auto"
    trust_remote_code: bool = False

    def check(self) -> None:
        """Refuse what can be refused before anything is loaded.

        Raises:
            HealError: one clear line about the first thing that is wrong.
        """
        if self.mode not in MODES:
            raise HealError(f"--mode {self.mode} is unknown: there is {', '.join(MODES)}")
        for name in ("rank", "steps", "batch", "minutes", "learning_rate", "teacher_top"):
            number = getattr(self, name)
            if number is not None and not 0 < number < float("inf"):
                raise HealError(f"--{name.replace('_', '-')} {number} must be above zero")
        if not 0 <= self.seams < float("inf"):
            raise HealError(f"--seams {self.seams} must not be negative: 0 leaves the seams alone")
        if self.seed < 0:
            raise HealError(f"--seed {self.seed} must not be negative")
        if self.teacher_cache is None and self.teacher_top is not None:
            raise HealError(
                f"--teacher-top {self.teacher_top} says what a cache keeps: name one with"
                " --teacher-cache DIR, or leave it out"
            )
        if self.teacher_cache is not None and self.seams:
            raise HealError(
                f"--seams {self.seams:g} needs the hidden states of the full model, and"
                " --teacher-cache keeps its predictions alone: leave out one of the two"
            )
        package = MODES[self.mode].package
        if package is not None and find_spec(package) is None:
            others = " or ".join(name for name, mode in MODES.items() if mode.package is None)
            raise HealError(
                f"--mode {self.mode} needs {package}, which is not installed:"
                f" pip install 'coterie[heal]', or take --mode {others}"
            )

    def as_json(self) -> dict[str, Json]:
        """The same as plain JSON; paths are reduced to their last part."""
        judges = {name: bare(text) for name, text in asdict(self.judges).items()}
        paths = ("model", "teacher", "teacher_cache", "text")
        named = {name: bare(getattr(self, name)) for name in paths}
        return {**asdict(self), **named, "judges": judges}


@dataclass(frozen=True, eq=False)
class HealJob:
    """Everything about a healing that is known before a weight is loaded."""

    request: Healing
    cut: Source
    full: Source
    kept: tuple[int, ...]
    record: CheckpointRecord | None
    lessons: TextSet
    judges: TextSet

    def identity(self) -> dict[str, Json]:
        """What decides the outcome."""
        return {
            **self.request.as_json(),
            "device": pick_device(self.request.device).type,
            "cut": self.cut.fingerprint(),
            "full": self.full.fingerprint(),
            "text_sha256": self.lessons.sha256,
            "held_out_sha256": self.judges.sha256,
            "coterie": versions()["coterie"],
        }
