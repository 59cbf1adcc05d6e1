"""The texts a comparison judges on: the calibration texts, and held-out ones of every length."""

import numpy as np

from coterie.errors import TextError
from coterie.models.loaded.load import load_tokenizer
from coterie.texts.sets import TextSet, choose_texts
from coterie.verbs.compare.record import CALIBRATION
from coterie.verbs.shared.defaults import context_of, default_calibration
from coterie.verbs.shared.prepared import Prepared
from coterie.verbs.shared.request import HELD_OUT_SEQUENCES


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
        request, source = prepared.request, prepared.source
        _, longer = choose_texts(
            load_tokenizer(source),
            calibration=request.calibration or default_calibration(source),
            held_out=request.held_out,
            sequences=request.sequences_of(cutting=True),
            held_out_sequences=HELD_OUT_SEQUENCES,
            length=length,
            rng=np.random.default_rng([request.seed, 1]),
            bos=request.bos_policy(),
            context=context_of(source),
        )
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
