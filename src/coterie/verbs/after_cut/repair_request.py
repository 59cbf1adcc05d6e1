"""What `repair` is asked for."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from coterie.errors import UserError
from coterie.verbs.after_cut.judging import JudgedAsTheCut, OriginOptions
from coterie.verbs.options.declare import Option, Options
from coterie.verbs.options.machine import Device, FromDisk
from coterie.verbs.options.search import Seed
from coterie.verbs.options.source import Model, Trust
from coterie.verbs.options.texts import Lesson


@dataclass(frozen=True, kw_only=True)
class Refitting(Options):
    """How the layers that stay are refitted."""

    method: Annotated[
        str,
        Option(
            "--method",
            "NAME",
            # Typed here, and held against the table by a test: the table loads torch.
            "`scalar`, `map`, `down`, `both`, `progressive`, `spread`, or `auto`: `spread`, on a "
            "GPU the one of the last two that loses less on texts set aside. One that does not "
            "lower the loss there is not applied.",
        ),
    ] = "auto"
    sequences: Annotated[
        int | None,
        Option(
            "--sequences",
            "N",
            "Sequences to fit on. Default: 32,768 tokens on a CPU and 262,144 on a GPU, where "
            "these are between 4 and 128 for every column that is fitted.",
            above=0,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class RepairRequest(
    FromDisk, Trust, Device, Seed, JudgedAsTheCut, Lesson, OriginOptions, Refitting, Model
):
    """How to repair a checkpoint.

    Args:
        model: Folder of the cut checkpoint.
        method: Name of a repair, or ``"auto"``: the one of the lowest loss on texts set aside.
        teacher: The model it was cut from; None is what its `coterie.json` names.
        revision: Branch, tag or commit of that model on the Hub.
        text: Text to fit on; None is what would heal the model.
        calibration: Text that chose the cut; without ``held_out``, part of it judges.
        held_out: Text that judges; None is what judged the cut.
        sequences: Sequences to fit on; None is enough for the widest fit.
        stream: Read the layers from disk one after the other; no model is whole in memory.

    >>> RepairRequest("small", method="down").as_json()["method"]
    'down'
    """

    VERB = "repair"
    HELP: ClassVar = {
        "text": "Text to fit on, as in `prune --calibration`. Default: C4; for `reference` the "
        "library modules it was trained on. Documents that also judge are left out.",
    }
    TOLD: ClassVar = frozenset({"method", "device"})

    def check(self) -> None:
        """Refuse what can be refused before anything is loaded.

        Raises:
            RepairError: one clear line about the first thing that is wrong.
        """
        from coterie.errors import RepairError
        from coterie.repair.choose import names_of

        super().check()
        if not names_of(self.method):
            raise RepairError("--method none repairs nothing: name a repair, or leave it out")

    def refusal(self) -> type[UserError]:
        """The kind of error that a value is refused with."""
        from coterie.errors import RepairError

        return RepairError
