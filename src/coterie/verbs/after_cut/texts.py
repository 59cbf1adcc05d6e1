"""What heals and what judges: the texts of `heal` and `quantize`, which never meet."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np
from transformers import PreTrainedTokenizerBase

from coterie.errors import TextError
from coterie.models.files.places import REFERENCE
from coterie.models.files.sources import Source as Model
from coterie.models.reference.text import training_documents
from coterie.plain import Json
from coterie.report.schema.part import known
from coterie.report.schema.record import CheckpointRecord
from coterie.texts.apart import apart
from coterie.texts.packing import BOS_POLICIES, SequenceFormat
from coterie.texts.recipe import CALIBRATION_ON_HUB, TextRecipe
from coterie.texts.sets import TextSet, cut_where_alone, pack
from coterie.texts.specs import Document, TextSource, read_documents
from coterie.verbs.options.texts import JudgingOptions
from coterie.verbs.shared.defaults import context_of
from coterie.verbs.shared.request import HELD_OUT_SEQUENCES, JUDGED_BESIDE, LENGTH, SEQUENCES

TRAINING = "the modules the reference model was trained on"


def held_out_texts(
    asked: JudgingOptions,
    record: CheckpointRecord | None,
    full: str,
    model: Model,
    tokenizer: PreTrainedTokenizerBase,
) -> TextSet:
    """The sequences that judge: those of the run that made the checkpoint, unless others are named.

    Args:
        asked: The texts that are named, if any.
        record: The record of that run, or None.
        full: Name of the model that was cut.
        model: The checkpoint.
        tokenizer: Turns text into token ids.

    Raises:
        TextError: a text that cannot be read, or is too short.
    """
    if asked.held_out is not None and asked.calibration is None:
        return judges_alone(asked.held_out, model, tokenizer)
    recipe = _recipe(asked, record, full, model, tokenizer)
    if record is None or record.held_out is None:
        return recipe.judging(JUDGED_BESIDE)
    return _judged_the_cut(recipe, record, record.held_out.sha256)


def _recipe(
    asked: JudgingOptions,
    record: CheckpointRecord | None,
    full: str,
    model: Model,
    tokenizer: PreTrainedTokenizerBase,
) -> TextRecipe:
    """The texts of the run that made the checkpoint, as far as its record names them."""
    request: dict[str, Json] = (
        dict(record.request) if record is not None and record.request is not None else {}
    )
    # What is named now goes before what the record names: a file may have moved.
    calibration = asked.calibration or _word(request, "calibration")
    held_out = asked.held_out or _word(request, "held_out")
    if calibration is None:
        calibration = "stdlib" if full == REFERENCE else (held_out or CALIBRATION_ON_HUB)
    seed = request.get("seed")
    context = context_of(model)
    return TextRecipe(
        tokenizer,
        calibration,
        None if held_out == calibration else held_out,
        sequences=SEQUENCES,
        held_out_sequences=HELD_OUT_SEQUENCES,
        length=min(LENGTH, context or LENGTH),
        # The seed of the cut, or other documents would be drawn than those that judged it.
        seed=(seed if isinstance(seed, int) else 0, 1),
        bos=next((policy for policy in BOS_POLICIES if policy == request.get("bos")), "auto"),
        context=context,
    )


def _judged_the_cut(recipe: TextRecipe, record: CheckpointRecord, sha256: str) -> TextSet:
    """The very sequences that judged the cut, where they can still be drawn; else the nearest."""
    # As many and as long as then: how many are drawn to choose decides what is left to judge.
    n, length = known(record.calibration).sequences, known(record.calibration).length
    recipe = replace(recipe, sequences=n, length=length)
    try:
        found = [recipe.judging(JUDGED_BESIDE)]
    except TextError as error:
        raise TextError(
            f"{error} (it judged the cut: say where it lies with --calibration or --held-out)"
        ) from error
    # Cuts of earlier versions were judged by what was drawn beside the sequences that chose.
    for many in (2 * n, n):
        if found[0].sha256 != sha256:
            with suppress(TextError):
                found.insert(0, replace(recipe, sequences=many).read()[1])
    same = [texts for texts in found if texts.sha256 == sha256]
    # None are the same: the text has changed, and the nearest draw judges.
    return (same or found[-1:])[0]


def judges_alone(spec: str, model: Model, tokenizer: PreTrainedTokenizerBase) -> TextSet:
    """Sequences of a text that judges, whatever the cut was chosen on.

    Args:
        spec: The text.
        model: How much it reads at once.
        tokenizer: Turns text into token ids.
    """
    rng, length = np.random.default_rng([0, 1]), min(LENGTH, context_of(model) or LENGTH)
    documents = read_documents(
        spec, tokenizer, rng=rng, half="verdict", sequences=HELD_OUT_SEQUENCES, length=length
    )
    form = SequenceFormat(tokenizer, length)
    return pack(documents, form, rng=rng, at_most=HELD_OUT_SEQUENCES)


WATCHED = 16
"""Sequences of a text that is watched while a model learns from another."""


def watched_texts(
    spec: str | None,
    tokenizer: PreTrainedTokenizerBase,
    *,
    held_out: TextSet,
    training: TextSet,
) -> TextSet | None:
    """Sequences of a text that is only watched; None where none is named.

    What is watched says which weights are kept: documents that judge or teach are left out.

    Args:
        spec: The text.
        tokenizer: Turns text into token ids.
        held_out: The sequences that judge; those that are watched are as long.
        training: The sequences that are learned from.

    Raises:
        TextError: nothing is left to watch.
    """
    if spec is None:
        return None
    rng, length = np.random.default_rng([0, 6]), held_out.length
    judges, taught = replace(held_out, side=held_out.content), training.content
    # As few documents as are watched, and where any of those are spoken for, so many more.
    for more in (0, held_out.n_sequences + training.n_sequences):
        documents = read_documents(
            spec, tokenizer, rng=rng, half="verdict", sequences=WATCHED + more, length=length
        )
        free = apart(
            [document for document in documents if document.key not in taught], judges, tokenizer
        )
        if len(free) == len(documents):
            break
    if not free:
        raise TextError(
            f"every document of the text '{spec}' also judges or teaches: name another --watch"
        )
    return pack(free, SequenceFormat(tokenizer, length), rng=rng, at_most=WATCHED)


def healing_texts(
    text: str | None,
    full: str,
    tokenizer: PreTrainedTokenizerBase,
    held_out: TextSet,
    *,
    sequences: int,
    seed: int,
) -> TextSet:
    """Sequences to learn from; no document is among them that is on the side that judges.

    Args:
        text: Spec of the text; None is the reference model's training text, for others C4.
        full: Name of the model that was cut.
        tokenizer: Turns text into token ids.
        held_out: What must not be learned from; sequences are as long as these.
        sequences: Most sequences that are wanted.
        seed: Decides which documents are drawn, and the order of the sequences.

    Raises:
        TextError: nothing is left to learn from.
    """
    rng, length = np.random.default_rng([seed, 5]), held_out.length
    if text is None and full == REFERENCE:
        named = list(training_documents())
        source = TextSource(TRAINING)
        places = rng.permutation(len(named))
        documents = [Document(named[i][0], named[i][1], source) for i in places]
    else:
        documents = read_documents(
            text or CALIBRATION_ON_HUB, tokenizer, rng=rng, sequences=sequences, length=length
        )
    # Six characters a token is more than most text takes: only so much is compared.
    enough = _enough(documents, 6 * sequences * length)
    clean = apart(enough, held_out, tokenizer)
    if not clean and len(enough) < len(documents):  # of a small text, the first may all judge
        clean = apart(documents, held_out, tokenizer)
    if not clean:  # a book alone was cut into parts before it was divided
        clean = apart(cut_where_alone(documents), held_out, tokenizer)
    if not clean:  # the whole text was there to judge: what was not drawn is left to learn from
        clean = apart(documents, replace(held_out, side=held_out.content), tokenizer)
    if not clean:
        raise TextError(
            f"every document of the text '{text}' also judges: name another --text or --held-out"
        )
    return pack(clean, SequenceFormat(tokenizer, length), rng=rng, at_most=sequences)


def _word(request: Mapping[str, Json], name: str) -> str | None:
    """A text that a record's request names, if it names one."""
    found = request.get(name)
    return found if isinstance(found, str) else None


def _enough(documents: Sequence[Document], characters: int) -> list[Document]:
    """Documents from the front until they hold that many characters."""
    chosen: list[Document] = []
    for document in documents:
        if characters <= 0:
            break
        chosen.append(document)
        characters -= len(document.text)
    return chosen
