"""Specs: what is read from each kind of text, and one clear line for what cannot be read."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from coterie.errors import TextError
from coterie.texts.plain_text import split_text
from coterie.texts.specs import parse_mixture, read_documents

TEMPLATE = "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}{% endfor %}"
CHAT = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]


@pytest.fixture
def tokenizer():
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), bos_token="<s>")


@pytest.fixture
def read(tokenizer, rng):
    def read(spec, **asked):
        return read_documents(str(spec), tokenizer, rng=rng, **asked)

    return read


def texts(documents):
    return [document.text for document in documents]


def write_rows(path, rows):
    if path.suffix == ".parquet":
        parquet.write_table(arrow.Table.from_pylist(rows), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet"])
def test_every_row_is_a_document_from_the_first_known_column_or_the_named_one(
    tmp_path, read, suffix
):
    rows = [{"title": f"t{i}", "content": f"long {i}", "text": f"short {i}"} for i in range(3)]
    path = write_rows(tmp_path / f"rows{suffix}", rows)
    assert texts(read(path)) == ["short 0", "short 1", "short 2"]
    assert texts(read(f"{path}:content")) == ["long 0", "long 1", "long 2"]


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet"])
def test_chat_messages_go_through_the_chat_template_without_a_second_bos(
    tmp_path, read, tokenizer, suffix
):
    path = write_rows(tmp_path / f"chat{suffix}", [{"messages": CHAT}])
    with pytest.raises(TextError, match="tokenizer has no chat template"):
        read(path)
    tokenizer.chat_template = TEMPLATE
    assert texts(read(path)) == ["[user] Hi.[assistant] Hello."]


def test_a_folder_holds_the_documents_of_its_files_by_name(tmp_path, read):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.txt").write_text("A book.\fIts second page.")
    (tmp_path / "a.json").write_text('["one", "two"]')
    (tmp_path / "cover.png").write_bytes(b"\x89PNG")
    (tmp_path / ".hidden.txt").write_text("not this")
    documents = read(tmp_path)
    assert [d.name for d in documents] == ["a.json[0]", "a.json[1]", "sub/b.txt"]
    assert documents[0].source.name == tmp_path.name
    assert len(documents[0].source.sha256) == 64


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one<|endoftext|>two<|endoftext|>\n", ["one", "two"]),
        ("page 1\fpage 2", ["page 1", "page 2"]),
        (" \n = A = \n\n x \n = = B = = \n y\n = C = \n z", 2),
    ],
)
def test_marks_separate_documents(text, expected):
    documents = split_text(text, alone=True)
    assert (documents if isinstance(expected, list) else len(documents)) == expected


@pytest.mark.parametrize("separator", ["\n\n", "\n", " "])
@pytest.mark.parametrize("words", [9, 400, 50_000])
def test_a_bare_text_is_cut_into_documents_and_loses_nothing(words, separator):
    text = separator.join(f"w{i}" for i in range(words))
    documents = split_text(text, alone=True)
    assert "".join(documents) == text
    target = min(2_000, words // 8)
    assert all(target / 2 <= len(d.split()) <= 1.5 * target + 1 for d in documents)
    assert split_text(text, alone=False) == [text]


def test_a_sample_is_uniform_and_holds_enough(tmp_path, tokenizer):
    path = write_rows(tmp_path / "many.jsonl", [f"document {i:04}" for i in range(500)])
    taken = np.zeros(500)
    for seed in range(60):
        documents = read_documents(
            str(path), tokenizer, rng=np.random.default_rng(seed), sequences=5, length=20
        )
        assert sum(len(d.text) for d in documents) >= 5 * 20 * 16
        taken[[int(d.text[-4:]) for d in documents]] += 1
    share = taken.sum() / (500 * 60)
    assert share < 0.3
    halves = taken[:250].mean() / 60, taken[250:].mean() / 60
    np.testing.assert_allclose(halves, share, atol=4 * np.sqrt(share / (250 * 60)))


def test_stdlib_halves_share_no_document(read):
    calibration, verdict = read("stdlib"), read("stdlib", half="verdict")
    assert calibration[0].source.name.startswith("stdlib (calibration half), Python 3.")
    assert not {d.name for d in calibration} & {d.name for d in verdict}


def test_a_mixture_reads_its_parts_and_weighs_them(tmp_path, read):
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text(f"text of {name} " * 9)
    documents = read(f"{tmp_path}/a.txt=3, {tmp_path}/b.txt=1")
    shares = {d.source.name: d.source.share for d in documents}
    assert shares == {"a.txt": 0.75, "b.txt": 0.25}


def test_a_path_with_an_equals_sign_or_a_comma_is_a_path(tmp_path, read):
    path = tmp_path / "lr=0.1,epoch=2"
    path.write_text("Some text.")
    assert "".join(texts(read(path))) == "Some text."
    assert parse_mixture(str(path)) == [(str(path), 1.0)]


class FakeStream(list):
    shuffled_by = None

    def shuffle(self, *, seed, buffer_size):
        FakeStream.shuffled_by = seed
        return iter(self)

    def to_iterable_dataset(self):
        return self


def fake_hub(monkeypatch, rows=(), error=None):
    """A `datasets` and a Hub of our own; returns what they were asked for."""
    asked = []

    def load_dataset(name, config, *, split, revision, streaming):
        asked.append((name, config, split, revision, streaming))
        if error is not None:
            raise error
        return FakeStream(rows)

    module = SimpleNamespace(load_dataset=load_dataset)
    monkeypatch.setitem(sys.modules, "datasets", module)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    info = SimpleNamespace(sha="0123456789abcdef")
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", lambda api, name, timeout: info)
    return asked


def test_a_hub_data_set_is_streamed_shuffled_and_read_no_further_than_needed(monkeypatch, read):
    served = []

    def rows():
        for i in range(10_000):
            served.append(i)
            yield {"text": f"document {i} " * 20}

    asked = fake_hub(monkeypatch)
    monkeypatch.setattr(FakeStream, "__iter__", lambda self: rows())
    documents = read("allenai/c4:en", sequences=4, length=32)
    assert asked == [("allenai/c4", "en", "train", "0123456789abcdef", True)]
    assert FakeStream.shuffled_by is not None
    assert len(documents) <= len(served) <= 20
    assert documents[0].source.name == "allenai/c4:en:train at 0123456789ab"


def test_hub_parts_name_config_split_and_column(monkeypatch, read):
    asked = fake_hub(monkeypatch, [{"text": "no", "body": "yes"}])
    assert texts(read("some-set::test:body")) == ["yes"]
    assert asked == [("some-set", None, "test", "0123456789abcdef", True)]


def test_wikitext_lines_are_joined_into_articles(monkeypatch, read):
    lines = ["", " = A = \n", "", " a . \n", " = = S = = \n", " s . \n", " = B = \n", " b . \n"]
    fake_hub(monkeypatch, [{"text": line} for line in lines])
    articles = texts(read("Salesforce/wikitext:wikitext-2-raw-v1:test:text"))
    assert articles == [" = A = \n a . \n = = S = = \n s . \n", " = B = \n b . \n"]


def test_offline_a_data_set_comes_from_the_cache_alone(monkeypatch, read):
    asked = fake_hub(monkeypatch, [{"text": "cached"}])
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert texts(read("a/b")) == ["cached"]
    assert asked == [("a/b", None, "train", None, False)]


class DatasetNotFoundError(FileNotFoundError):
    """Same name as the library's."""


@pytest.mark.parametrize(
    ("error", "complaint"),
    [
        (
            ConnectionError("Couldn't reach it"),
            "'a/b' is not a file here, .* needs the Hugging Face Hub.*'stdlib'",
        ),
        (DatasetNotFoundError("no"), "'a/b' is neither a file here nor a data set on the Hub"),
        (DatasetNotFoundError("Dataset 'a/b' is a gated dataset"), "is gated: .*hf auth login"),
        (ValueError("Bad split: x. Available: y\nmore"), "cannot be read: Bad split: x. Available"),
    ],
)
def test_what_the_hub_refuses_is_one_line(monkeypatch, read, error, complaint):
    fake_hub(monkeypatch, error=error)
    with pytest.raises(TextError, match=complaint) as caught:
        read("a/b")
    assert "\n" not in str(caught.value)


def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch, read):
    fake_hub(monkeypatch)

    def fail(api, name, timeout):
        raise TimeoutError

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", fail)
    with pytest.raises(TextError, match="it needs the Hugging Face Hub, which cannot be reached"):
        read("a/b")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    fake_hub(monkeypatch, error=ConnectionError("Couldn't reach 'a/b'"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(TextError, match="offline, a local file or folder of texts works"):
        read("a/b")


def test_a_hub_set_without_the_library_says_what_to_install(monkeypatch, read):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(TextError, match="pip install datasets"):
        read("a/b")


BAD_FILES = [
    ("empty.txt", b" \n", "", "text 'empty.txt' is empty"),
    ("empty.jsonl", b"\n", "", "text 'empty.jsonl' is empty"),
    ("empty.json", b"", "", "text 'empty.json' is empty"),
    ("latin.txt", b"caf\xe9", "", "'latin.txt' is not UTF-8: byte 3 is 0xe9"),
    ("latin.jsonl", b'{"text": "a"}\n"\xe9"', "", "not UTF-8: byte 15 is 0xe9"),
    ("bad.jsonl", b'{"text": "a"}\n{"text": \n', "", "'bad.jsonl', line 2 is not JSON: Expecting"),
    ("bad.json", b'["a",\n', "", "'bad.json' is not JSON: .* at line 2"),
    ("one.json", b'{"text": "a"}', "", "'one.json' is one JSON value, not a list"),
    ("n.jsonl", b"3\n", "", "line 1 is of type int; a row is a text or an object"),
    ("c.jsonl", b'{"a": "x", "b": "y"}', "", "has no column 'text' or .*columns are a, b"),
    ("c.jsonl", b'{"a": "x", "b": "y"}', ":z", "has no column 'z'; its columns are a, b"),
    ("v.jsonl", b'{"text": null}', "", "line 1, column 'text' is null; it must be a text"),
    ("m.jsonl", b'{"messages": [{"from": "x"}]}', "", "has a message of from; a message is"),
    ("p.parquet", b"PAR?", "", "'p.parquet' cannot be read as Parquet"),
    ("t.txt", b"text", ":text", "'t.txt' is plain text, without columns: leave out ':text'"),
]


@pytest.mark.parametrize(("name", "content", "column", "complaint"), BAD_FILES)
def test_a_file_that_cannot_be_used_is_one_clear_line(
    tmp_path, read, name, content, column, complaint
):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(TextError, match=complaint) as caught:
        read(f"{path}{column}")
    assert "\n" not in str(caught.value) and str(tmp_path) not in str(caught.value)


def test_a_parquet_file_names_its_columns(tmp_path, read):
    path = write_rows(tmp_path / "rows.parquet", [{"a": "x", "b": "y"}])
    with pytest.raises(TextError, match=r"'rows\.parquet' has no column 'z'; its columns are a, b"):
        read(f"{path}:z")


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ("missing.txt", "text 'missing.txt' is not there: give a file"),
        ("./missing", "is not there"),
        ("not a name at all", "is not there"),
        ("", "text '' is not there"),
        ("a.txt=0.7,b.txt", "'b.txt' in the mixture .* has no weight above 0"),
        ("a.txt=0.7,b.txt=-1", "'b.txt=-1' in the mixture"),
        ("a.txt=0.7,b.txt=half", "'b.txt=half' in the mixture"),
        ("a.txt=0.7,a.txt=0.3", "names a part twice"),
    ],
)
def test_a_spec_that_names_nothing_is_refused(read, spec, complaint):
    with pytest.raises(TextError, match=complaint):
        read(spec)


def test_a_folder_without_texts_is_refused(tmp_path, read):
    (tmp_path / "data.bin").write_bytes(b"0")
    with pytest.raises(TextError, match="holds no text: no file below it ends in"):
        read(tmp_path)
