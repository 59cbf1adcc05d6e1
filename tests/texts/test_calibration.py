"""Sequences: equal length, many documents, the asked shares, and no text on both sides."""

import string
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from coterie.errors import TextError
from coterie.texts.packing import SequenceFormat
from coterie.texts.recipe import TextRecipe
from coterie.texts.sets import pack, split_documents, without
from coterie.texts.specs import Document, TextSource

SOURCE = TextSource("corpus.txt")


def byte_tokenizer(*, adds_bos=False):
    """One token a byte: sequences can be read back, and counted by hand."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: place for place, token in enumerate(["<s>", "</s>", *alphabet])}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    if adds_bos:
        inner.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 0)]
        )
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>")


@pytest.fixture
def tokenizer():
    return byte_tokenizer()


def document(name, text, source=SOURCE):
    return Document(name, text, source)


def packed(documents, tokenizer, *, length, bos="auto", context=None, rng, **asked):
    return pack(documents, SequenceFormat(tokenizer, length, bos, context), rng=rng, **asked)


def library(count, length):
    """Documents over alphabets of their own: a sequence betrays where it comes from."""
    return [document(f"d{i}", chr(ord("A") + i) * length) for i in range(count)]


def test_sequences_have_one_length_and_every_document_speaks_before_any_speaks_twice(
    tokenizer, rng
):
    texts = packed(library(8, 100), tokenizer, length=16, sequences=20, rng=rng)
    assert texts.tokens.shape == (20, 16) and texts.tokens.dtype == np.int64
    assert (texts.n_sequences, texts.length, texts.bos) == (20, 16, False)
    assert sorted(Counter(texts.documents[:8]).values()) == [1] * 8
    assert sorted(Counter(texts.documents[:16]).values()) == [2] * 8


def test_a_sequence_is_text_of_the_document_it_names(tokenizer, rng):
    documents = [document("digits", "0123456789" * 30), document("letters", "abcdefghij" * 30)]
    texts = packed(documents, tokenizer, length=25, rng=rng)
    text_of = {d.name: d.text for d in documents}
    for row, place in zip(texts.tokens, texts.documents, strict=True):
        assert tokenizer.decode(row) in text_of[texts.document_names[place]]


def test_windows_do_not_overlap(tokenizer, rng):
    text = "".join(chr(0x100 + i) for i in range(500))  # 1,000 different pairs of bytes
    texts = packed([document("d", text)], tokenizer, length=10, rng=rng)
    pairs = [tuple(row[i : i + 2]) for row in texts.tokens for i in range(0, 10, 2)]
    assert texts.n_sequences >= 99
    assert max(Counter(pairs).values()) <= 2  # an odd offset pairs last with first bytes


def test_short_documents_are_joined_by_the_end_token_into_documents_of_their_own(tokenizer, rng):
    texts = packed(library(6, 10), tokenizer, length=15, rng=rng)
    assert texts.n_sequences == 3
    assert len(set(texts.documents)) == 3
    for row in texts.tokens:
        assert (row == tokenizer.eos_token_id).nonzero()[0].tolist() == [10]
    letters = [set(tokenizer.decode(row, skip_special_tokens=True)) for row in texts.tokens]
    assert len(set.union(*letters)) == 6


def test_a_long_document_gives_the_windows_of_all_its_stretches(tokenizer, rng):
    texts = packed([document("book", "word " * 40_000)], tokenizer, length=100, rng=rng)
    assert 0.95 * 2_000 <= texts.n_sequences <= 2_000
    assert set(texts.documents) == {0}


def test_bos_stands_before_every_sequence_as_the_policy_says():
    plain, adding = byte_tokenizer(), byte_tokenizer(adds_bos=True)
    for tokenizer, policy, expected in [
        (plain, "auto", False),
        (plain, "always", True),
        (plain, "never", False),
        (adding, "auto", True),
        (adding, "always", True),
        (adding, "never", False),
    ]:
        texts = packed(
            library(3, 50), tokenizer, length=8, bos=policy, rng=np.random.default_rng(0)
        )
        assert texts.bos is expected
        assert ((texts.tokens == tokenizer.bos_token_id).sum(axis=1) == expected).all()
        assert ((texts.tokens[:, 0] == tokenizer.bos_token_id) == expected).all()
        assert texts.length == 8


def test_a_mixture_gives_every_source_its_share_of_any_first_sequences(tokenizer, rng):
    big, small = TextSource("a", 0.7), TextSource("b", 0.3)
    documents = [document(f"a{i}", "a" * 400, big) for i in range(3)]
    documents += [document(f"b{i}", "b" * 400, small) for i in range(3)]
    texts = packed(documents, tokenizer, length=10, sequences=40, rng=rng)
    from_a = np.array([texts.document_names[place][0] == "a" for place in texts.documents])
    for first in (10, 20, 30, 40):
        assert from_a[:first].sum() == round(0.7 * first)
    assert texts.description == "70% a + 30% b"


def test_documents_of_one_name_in_two_sources_stay_two(tokenizer, rng):
    documents = [document("x", letter * 50, TextSource(letter, 0.5)) for letter in "ab"]
    texts = packed(documents, tokenizer, length=10, sequences=4, rng=rng)
    assert len(texts.document_names) == len(set(texts.documents)) == 2


def test_the_seed_decides_the_sequences_and_the_hash_tells_them_apart(tokenizer):
    first, again, other = (
        packed(library(5, 90), tokenizer, length=10, sequences=9, rng=np.random.default_rng(seed))
        for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first.tokens, again.tokens)
    assert first.sha256 == again.sha256 != other.sha256


def test_split_puts_every_document_on_one_side_and_duplicates_on_the_same():
    documents = [document(f"d{i}", f"text number {i} " * 9) for i in range(40)]
    documents += [document(f"copy{i}", f"Text  Number {i}\n" * 9) for i in range(40)]
    choosing, judging = split_documents(documents, seed=0)
    assert len(choosing) + len(judging) == 80
    assert not {d.key for d in choosing} & {d.key for d in judging}
    assert 0.4 < len(judging) / 80 < 0.6


def test_split_depends_on_content_and_seed_alone(rng):
    documents = [document(f"d{i}", f"text {i}") for i in range(30)]
    renamed = [document(f"e{i}", documents[i].text) for i in rng.permutation(30)]
    judged = {d.text for d in split_documents(documents, seed=5)[1]}
    assert judged == {d.text for d in split_documents(renamed, seed=5)[1]}
    assert judged != {d.text for d in split_documents(documents, seed=6)[1]}


@pytest.mark.parametrize("lengths", [(1, 1_000), (1_000, 1), (5, 5, 10_000)])
def test_split_leaves_neither_side_empty(lengths):
    documents = [document(str(i), chr(97 + i) * n) for i, n in enumerate(lengths)]
    assert all(split_documents(documents, seed=0))


def test_what_calibrates_is_taken_out_of_what_judges():
    documents = library(5, 20)
    rest, left_out = without(documents, documents[:2])
    assert ([d.name for d in rest], left_out) == (["d2", "d3", "d4"], 2)


def test_stdlib_judges_by_the_half_that_does_not_calibrate(tokenizer):
    chosen, judges = TextRecipe(
        tokenizer, "stdlib", sequences=12, held_out_sequences=12, length=64
    ).read()
    assert "calibration half" in chosen.description and "verdict half" in judges.description
    assert not set(chosen.document_names) & set(judges.document_names)


@pytest.mark.parametrize("names_itself", [False, True])
def test_a_file_alone_sets_half_of_its_documents_aside(tokenizer, tmp_path, names_itself):
    path = tmp_path / "novel.txt"
    path.write_text("\n\n".join(f"{i} " * 10 for i in range(300)))
    chosen, judges = TextRecipe(
        tokenizer, str(path), str(path) if names_itself else None, sequences=6,
        held_out_sequences=None, length=32,
    ).read()  # fmt: skip
    assert not set(chosen.document_names) & set(judges.document_names)
    assert not {row.tobytes() for row in chosen.tokens} & {row.tobytes() for row in judges.tokens}
    assert judges.n_sequences > 100
    assert str(tmp_path) not in repr((chosen.description, chosen.document_names, chosen.sources))


def test_a_named_held_out_text_loses_what_also_calibrates(tokenizer, tmp_path):
    ours, theirs = tmp_path / "a.json", tmp_path / "b.json"
    ours.write_text('["alpha beta gamma delta", "one two three four five"]')
    theirs.write_text('["One two  three four five", "a text of its own, rather long"]')
    _, judges = TextRecipe(
        tokenizer, str(ours), str(theirs), sequences=2, held_out_sequences=None, length=8
    ).read()
    assert set(judges.document_names) == {"b.json[1]"}
    assert judges.description.endswith("less 1 document that also calibrates")
    theirs.write_text(ours.read_text() + " ")
    with pytest.raises(TextError, match=r"every document of the held-out text .* also calibrates"):
        TextRecipe(
            tokenizer, str(ours), str(theirs), sequences=2, held_out_sequences=2, length=8
        ).read()


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ({"length": 1}, "length 1 predicts no token: give at least 2"),
        ({"length": 65, "context": 64}, "length 65 is above the model's context of 64 tokens"),
        ({"length": 64}, "has 50 tokens in 5 documents, and one sequence needs 64"),
        ({"length": 10, "sequences": 9}, "enough for 5 sequences of 10 where its part of 9"),
        ({"length": 10, "sequences": 0}, "0 sequences are fewer than one"),
    ],
)
def test_what_cannot_be_packed_is_refused(tokenizer, rng, asked, complaint):
    with pytest.raises(TextError, match=complaint):
        packed(library(5, 10), tokenizer, rng=rng, **asked)


def test_a_source_with_too_small_a_share_is_refused(tokenizer, rng):
    documents = [
        document("a", "a" * 90, TextSource("a", 0.99)),
        document("b", "b" * 90, TextSource("b", 0.01)),
    ]
    with pytest.raises(TextError, match="'b' has too small a share to give one of 3 sequences"):
        packed(documents, tokenizer, length=10, sequences=3, rng=rng)


def test_bos_cannot_be_asked_of_a_tokenizer_without_one(rng):
    tokenizer = byte_tokenizer()
    tokenizer.bos_token = None
    with pytest.raises(TextError, match="BOS 'always' needs a tokenizer with a BOS token"):
        packed(library(2, 50), tokenizer, length=8, bos="always", rng=rng)


def test_one_document_cannot_be_split():
    with pytest.raises(TextError, match="single document, so none can be set aside"):
        split_documents([document("a", "same"), document("b", " SAME ")], seed=0)


@pytest.mark.parametrize("held_out", [None, "other.txt"])
@pytest.mark.parametrize("wanted", [2, 4, 12, 30, 10_000])
def test_more_texts_begin_with_those_that_calibrate_and_never_meet_those_that_judge(
    tokenizer, tmp_path, held_out, wanted
):
    def text(letters):
        return "<|endoftext|>".join("".join(f"{a}{n}" for n in range(40)) for a in letters)

    (tmp_path / "text.txt").write_text(text(string.ascii_letters))
    (tmp_path / "other.txt").write_text(text("qrstuvwxyzABCDEFGHIJ%&"))
    asked = {
        "calibration": str(tmp_path / "text.txt"),
        "held_out": held_out and str(tmp_path / held_out),
        "sequences": 4,
        "held_out_sequences": 3,
    }
    recipe = TextRecipe(tokenizer, **asked, length=16, seed=(5, 1))
    calibration, held = recipe.read()
    more = recipe.more(wanted)
    n = min(wanted, 4)
    np.testing.assert_array_equal(more.tokens[:n], calibration.tokens[:n])
    read = [set(tokenizer.decode(texts.tokens.ravel())) for texts in (more, held)]
    assert not read[0] & read[1] - set("0123456789")
    assert more.n_sequences == wanted or wanted == 10_000
    assert len(np.unique(more.documents)) == len(more.document_names) >= min(wanted, 4)
    assert more.description == calibration.description
    if wanted == 10_000:  # as many as there are
        assert 100 < more.n_sequences < 52 * 7 + 4


def test_more_of_a_text_that_is_read_whole_goes_on_where_the_first_ones_stopped(
    tokenizer, tmp_path
):
    words = " ".join(str(number) for number in range(1000))
    (tmp_path / "text.txt").write_text(words + "<|endoftext|>" + words[::-1])
    asked = {"calibration": str(tmp_path / "text.txt"), "held_out": None}
    asked |= {"sequences": 4, "held_out_sequences": None}
    more = TextRecipe(tokenizer, **asked, length=16, seed=(3,)).more(50)
    assert more.n_sequences == 50
    assert len({row.tobytes() for row in more.tokens}) == 50


def test_a_recipe_reads_once_and_a_changed_one_reads_other_sequences(tokenizer):
    recipe = TextRecipe(tokenizer, "stdlib", sequences=4, held_out_sequences=4, length=32)
    first, again = recipe.read(), recipe.read()
    assert first[0] is again[0] and first[1] is again[1]
    same = replace(recipe).read()
    assert [texts.sha256 for texts in same] == [texts.sha256 for texts in first]
    longer, judges = replace(recipe, length=64).read()
    assert longer.length == judges.length == 64
