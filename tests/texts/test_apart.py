"""What is learned from, and what is watched, holds no document that judges."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from tests.texts.test_calibration import byte_tokenizer
from tokenizers import processors
from transformers import LlamaConfig

from coterie.errors import TextError
from coterie.repair.amount import columns_of
from coterie.repair.choose import Repaired
from coterie.repair.refitted import HELD_OUT
from coterie.texts.apart import TELLING, apart
from coterie.texts.packing import SequenceFormat
from coterie.texts.recipe import TextRecipe
from coterie.texts.sets import pack
from coterie.texts.specs import Document, TextSource
from coterie.verbs.after_cut.texts import healing_texts, watched_texts
from coterie.verbs.search.healed import ASIDE, repairs_told
from coterie.verbs.shared.prepared import divided, fitting_texts


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


def prepared(recipe, *, width):
    """The texts of a search, of a model whose widest fit has 4.5 times as many columns as this."""
    both, _ = replace(recipe, sequences=2 * recipe.sequences).read()
    calibration, second = divided(both, recipe.sequences)
    config = LlamaConfig(hidden_size=width, intermediate_size=7 * width // 2)
    source = SimpleNamespace(config=lambda: config)
    return SimpleNamespace(recipe=recipe, calibration=calibration, second=second, source=source)


def test_more_of_a_text_is_of_other_documents_while_there_are_any(corpus):
    recipe = TextRecipe(
        byte_tokenizer(), corpus(80, 200), sequences=8, held_out_sequences=4, length=64
    )
    first, held_out = recipe.read()
    more = recipe.more(30)
    again = more.holding(first.content)
    assert again[:8].all() and not again[8:].any() and more.n_sequences == 30
    assert not more.content & held_out.side
    # Two or three windows fit a document, and cut anew they are others: the last ones are those.
    every = recipe.more(500)
    again = every.holding(first.content)[8:]
    assert again.any() and (np.diff(again.astype(int)) >= 0).all()


def test_a_repaired_search_is_fitted_on_no_document_that_chooses_or_decides(corpus):
    recipe = TextRecipe(
        byte_tokenizer(), corpus(160, 200), sequences=8, held_out_sequences=4, length=64
    )
    run = prepared(recipe, width=128)
    fit = fitting_texts(run)
    assert fit.n_sequences == 18
    assert not fit.content & (run.calibration.content | run.second.content)
    # Only where no others are left, and they come last.
    every = fitting_texts(run, 1000)
    again = every.holding(run.calibration.content | run.second.content)
    assert again.any() and (np.diff(again.astype(int)) >= 0).all()


def test_finalists_of_a_wide_model_are_repaired_on_as_many_tokens_as_it_has_columns(corpus):
    recipe = TextRecipe(byte_tokenizer(), corpus(500, 300), sequences=4, length=128)
    run = prepared(recipe, width=4096)
    columns = columns_of(run.source.config())
    texts = fitting_texts(run, 160, ASIDE)
    fitted = texts.n_sequences - max(1, texts.n_sequences // ASIDE)
    assert columns == 18_432 <= fitted * 128 * (HELD_OUT - 1) / HELD_OUT
    assert 2 * columns <= fitted * 128


def test_a_remark_names_the_repair_that_was_applied():
    none, spread = (Repaired(name, {}, np.zeros(1)) for name in ("none", "spread"))
    assert repairs_told([none, none]) == "no repair and 20 steps of healing"
    assert "(2 of 3 by spread)" in repairs_told([spread, none, spread])
