"""How `heal` and `quantize` say which text judges, and how their records hold it."""

from coterie.plain import Json

JUDGED_AS_THE_CUT = {
    "held_out": "Text that judges. Default: what judged the cut, told by its coterie.json.",
    "calibration": "The --calibration of the cut, where that is a local file: half of it judges.",
}
"""Help of the texts that judge what comes after a cut."""


def judges_as_json(flat: dict[str, Json]) -> dict[str, Json]:
    """A request with both texts that judge under one name, as records hold them."""
    named = ("calibration", "held_out")
    judges = {name: flat[name] for name in named}
    return {**{name: flat[name] for name in flat if name not in named}, "judges": judges}
