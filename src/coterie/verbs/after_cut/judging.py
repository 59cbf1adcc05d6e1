"""What `heal`, `repair` and `quantize` are all told: what was cut, and which text judges."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from coterie.plain import Json
from coterie.verbs.options.declare import Option, Options
from coterie.verbs.options.texts import JudgingOptions


@dataclass(frozen=True, kw_only=True)
class OriginOptions(Options):
    """The model that a checkpoint was cut from."""

    teacher: Annotated[
        str | None,
        Option(
            "--teacher",
            "MODEL",
            "The model DIR was cut from. Default: what its coterie.json names.",
            path=True,
        ),
    ] = None
    revision: Annotated[
        str | None, Option("--revision", "NAME", "Branch, tag or commit of that model on the Hub.")
    ] = None


@dataclass(frozen=True, kw_only=True)
class JudgedAsTheCut(JudgingOptions):
    """The texts that judge: those that judged the cut, unless others are named."""

    HELP: ClassVar = {
        "held_out": "Text that judges. Default: what judged the cut, told by its coterie.json.",
        "calibration": "The --calibration of the cut, where that is a local file: half of it "
        "judges.",
    }

    def as_json(self) -> dict[str, Json]:
        """The same as plain JSON; both texts that judge under one name, as records hold them."""
        flat, named = super().as_json(), ("calibration", "held_out")
        judges = {name: flat[name] for name in named}
        return {**{name: flat[name] for name in flat if name not in named}, "judges": judges}
