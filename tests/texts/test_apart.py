"""What is learned from, and what is watched, holds no document that judges."""

import json
from dataclasses import replace

import numpy as np
import pytest
from tests.texts.test_calibration import byte_tokenizer
from tokenizers import processors

from coterie.errors import TextError
from coterie.texts.apart import TELLING, apart
from coterie.texts.packing import SequenceFormat
from coterie.texts.recipe import TextRecipe
from coterie.texts.sets import pack
from coterie.texts.specs import Document, TextSource
from coterie.verbs.after_cut.texts import healing_texts, watched_texts


def numbered(place: int, length: int) -> str:
    """A text that says in every word which document it is."""
    return (f"{place:04d} " * length)[:length]


@pytest.fixture
def corpus(tmp_path):
    def written(n: int, length: int):
        path = tmp_path / f"{n}-{length}.jsonl"
        rows = [json.dumps({"text": numbered(place, length)}) for place in range(n)]
        path.write_text("\n".join(rows))
        return str(path)

    return written


def places(texts, tokenizer, least=1):
    """The numbers of the documents of which at least so many tokens stand in a sequence."""
    found = set()
    for row in texts.tokens:
        for part in tokenizer.decode(row).replace("<s>", "</s>").split("</s>"):
            if len(part) >= least:
                found |= {word for word in part.split(" ") if len(word) == 4}
    return found


@pytest.mark.parametrize("length", [40, 100, 300])
def test_nothing_of_the_half_that_judges_is_learned_from(corpus, length):
    tokenizer, text = byte_tokenizer(), corpus(200, length)
    recipe = TextRecipe(tokenizer, text, sequences=10, held_out_sequences=64, length=128)
    _, held_out = recipe.read()
    training = healing_texts(text, "m", tokenizer, held_out, sequences=500, seed=0)
    assert not training.content & held_out.side and not training.side & held_out.side
    keys = {
        Document("", numbered(at, length), TextSource("")).key: f"{at:04d}" for at in range(200)
    }
    judging = {keys[key] for key in held_out.side}
    assert len(judging) == 100 and places(held_out, tokenizer) <= judging
    assert not places(training, tokenizer) & judging and len(places(training, tokenizer)) > 90


@pytest.mark.parametrize("before", ["", "<s> ", "<s> </s> "])
@pytest.mark.parametrize("length", [40, 100, 300])
def test_rows_alone_tell_which_documents_judge(length, before):
    tokenizer, rng = byte_tokenizer(), np.random.default_rng(0)
    if before:
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{before}$A", special_tokens=[("<s>", 0), ("</s>", 1)]
        )
    source = TextSource("text")
    documents = [Document(str(at), numbered(at, length), source) for at in range(60)]
    judges = pack(documents[:30], SequenceFormat(tokenizer, 128), rng=rng)
    assert judges.prefix == len(before.split())
    # As of a text that another cut has divided otherwise: no key is known.
    clean = apart(documents, replace(judges, side=frozenset()), tokenizer)
    occurring = places(judges, tokenizer, TELLING)
    assert len(occurring) > 20 and set(documents[30:]) <= set(clean)
    assert not {f"{int(document.name):04d}" for document in clean} & occurring


def test_what_is_watched_neither_judges_nor_teaches(corpus):
    tokenizer, text = byte_tokenizer(), corpus(120, 100)
    _, held_out = TextRecipe(tokenizer, text, sequences=4, held_out_sequences=8, length=64).read()
    training = healing_texts(text, "m", tokenizer, held_out, sequences=16, seed=0)
    watched = watched_texts(text, tokenizer, held_out=held_out, training=training)
    sets = [texts.content for texts in (held_out, training, watched)]
    assert sum(map(len, sets)) == len(frozenset().union(*sets)) and all(sets)
    spoken_for = corpus(16, 100)
    _, held_out = TextRecipe(tokenizer, spoken_for, sequences=2, length=64).read()
    training = healing_texts(spoken_for, "m", tokenizer, held_out, sequences=16, seed=0)
    with pytest.raises(TextError, match="also judges or teaches: name another --watch"):
        watched_texts(spoken_for, tokenizer, held_out=held_out, training=training)
