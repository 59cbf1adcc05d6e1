"""The texts a comparison judges on: the calibration texts, and held-out ones of every length."""

from dataclasses import replace

from coterie.errors import TextError
from coterie.texts.sets import TextSet
from coterie.verbs.compare.cells import CALIBRATION
from coterie.verbs.shared.prepared import Prepared


def judging_texts(prepared: Prepared, lengths: tuple[int, ...]) -> dict[str, TextSet]:
    """The texts every answer is judged on: the calibration texts, and held-out ones by length.

    Raises:
        TextError: a length above the model's context, or no text apart from the calibration's.
    """
    calibration, held_out = prepared.calibration, prepared.held_out
    texts = {CALIBRATION: calibration}
    for length in lengths or (held_out.length,):
        if length == held_out.length:
            texts[str(length)] = held_out
            continue
        _, longer = replace(prepared.recipe, length=length).read()
        # Longer sequences are drawn anew, and may reach into documents that calibrate.
        used = set(calibration.document_names)
        if prepared.second is not None:
            used |= set(prepared.second.document_names)
        if set(longer.sources) & set(calibration.sources) and used & set(longer.document_names):
            raise TextError(
                f"at length {length} documents that calibrate would judge too: name a text of its"
                " own with --held-out"
            )
        texts[str(length)] = longer
    return texts
