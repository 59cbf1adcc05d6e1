"""What heals and what judges: the texts of `heal` and `quantize`, which never meet."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

import numpy as np
from transformers import PreTrainedTokenizerBase

from coterie.errors import TextError
from coterie.models.files.sources import REFERENCE
from coterie.models.files.sources import Source as Model
from coterie.models.reference.text import training_documents
from coterie.plain import Json
from coterie.report.schema.prune import Record
from coterie.texts.sets import CALIBRATION_ON_HUB, TextSet, choose_texts, pack
from coterie.texts.specs import Document, Source, read_documents
from coterie.verbs.shared.defaults import context_of
from coterie.verbs.shared.request import HELD_OUT_SEQUENCES, LENGTH, SEQUENCES, BosPolicy

TRAINING = "the modules the reference model was trained on"


@dataclass(frozen=True)
class Judges:
    """Which text judges, as in `coterie prune`; the same words give the same sequences.

    Attributes:
        calibration: Text that chose the cut; without `held_out`, part of it is set aside to judge.
        held_out: Text that judges.
    """

    calibration: str | None = None
    held_out: str | None = None


def held_out_texts(
    asked: Judges,
    record: Record | None,
    full: str,
    model: Model,
    tokenizer: PreTrainedTokenizerBase,
) -> TextSet:
    """The sequences that judge: those of the run that made the checkpoint, unless others are named.

    Args:
        record: Of that run, or None.
        full: Name of the model that was cut.
        model: The checkpoint.

    Raises:
        TextError: a text that cannot be read, or is too short.
    """
    if asked.held_out is not None and asked.calibration is None:
        return _judges_alone(asked.held_out, model, tokenizer)
    request: dict[str, Json] = (
        dict(record["request"]) if record is not None and "request" in record else {}
    )
    calibration = asked.calibration or cast("str | None", request.get("calibration"))
    held_out = asked.held_out or cast("str | None", request.get("held_out"))
    if calibration is None:
        calibration = "stdlib" if full == REFERENCE else (held_out or CALIBRATION_ON_HUB)
    seed, bos = cast("int", request.get("seed", 0)), cast("BosPolicy", request.get("bos", "auto"))

    def read(sequences: int, length: int) -> TextSet:
        return choose_texts(
            tokenizer,
            calibration=calibration,
            held_out=None if held_out == calibration else held_out,
            sequences=sequences,
            held_out_sequences=HELD_OUT_SEQUENCES,
            length=length,
            rng=np.random.default_rng([seed, 1]),
            bos=bos,
            context=context_of(model),
        )[1]

    if record is None or "held_out" not in record:
        return read(SEQUENCES, min(LENGTH, context_of(model) or LENGTH))
    # What is drawn to choose moves what is drawn to judge: a search with finalists draws twice.
    n, length = record["calibration"]["sequences"], record["calibration"]["length"]
    try:
        found = [read(n, length)]
    except TextError as error:
        raise TextError(
            f"{error} (it judged the cut: say where it lies with --calibration or --held-out)"
        ) from error
    if found[0].sha256 != record["held_out"]["sha256"]:
        with suppress(TextError):
            found.insert(0, read(2 * n, length))
    same = [texts for texts in found if texts.sha256 == record["held_out"]["sha256"]]
    return (same or found[-1:])[0]


def _judges_alone(spec: str, model: Model, tokenizer: PreTrainedTokenizerBase) -> TextSet:
    """Sequences of a text that judges, whatever the cut was chosen on."""
    rng, length = np.random.default_rng([0, 1]), min(LENGTH, context_of(model) or LENGTH)
    documents = read_documents(
        spec, tokenizer, rng=rng, half="verdict", sequences=HELD_OUT_SEQUENCES, length=length
    )
    return pack(documents, tokenizer, length=length, rng=rng, at_most=HELD_OUT_SEQUENCES)


def healing_texts(
    text: str | None,
    full: str,
    tokenizer: PreTrainedTokenizerBase,
    judges: TextSet,
    *,
    sequences: int,
    length: int,
    seed: int,
) -> TextSet:
    """Sequences to learn from; a document that holds a sequence of the judges is left out.

    Args:
        text: Spec of the text; None is the reference model's training text, for others C4.
        sequences: How many are wanted at most.

    Raises:
        TextError: nothing is left to learn from.
    """
    rng = np.random.default_rng([seed, 5])
    if text is None and full == REFERENCE:
        named = list(training_documents())
        source = Source(TRAINING)
        places = rng.permutation(len(named))
        documents = [Document(named[i][0], named[i][1], source) for i in places]
    else:
        documents = read_documents(
            text or CALIBRATION_ON_HUB, tokenizer, rng=rng, sequences=sequences, length=length
        )
    enough = _enough(documents, 6 * sequences * length)
    clean = unjudged(enough, judges, tokenizer)
    if not clean:
        raise TextError(
            f"every document of the text '{text}' also judges: name another --text or --held-out"
        )
    return pack(clean, tokenizer, length=length, rng=rng, at_most=sequences, bos="auto")


def unjudged(
    documents: Sequence[Document], judges: TextSet, tokenizer: PreTrainedTokenizerBase
) -> list[Document]:
    """The documents in which no sequence that judges occurs, compared token by token."""
    bodies = [_bytes(row[1:]) for row in judges.tokens.tolist()]
    clean = []
    for document in documents:
        ids = tokenizer(document.text, add_special_tokens=False, verbose=False)["input_ids"]
        whole = _bytes(cast("list[int]", ids))
        if not any(body in whole for body in bodies):
            clean.append(document)
    return clean


def _enough(documents: Sequence[Document], characters: int) -> list[Document]:
    """Documents from the front until they hold that many characters."""
    chosen: list[Document] = []
    for document in documents:
        if characters <= 0:
            break
        chosen.append(document)
        characters -= len(document.text)
    return chosen


def _bytes(ids: Sequence[int]) -> bytes:
    return np.asarray(ids, dtype="<i4").tobytes()
