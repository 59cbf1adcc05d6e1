"""What a file holds is known by a list of what is read; rows that hold nothing are counted."""

import csv
import gzip
import json
import os

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from coterie.cli import main
from coterie.errors import TextError
from coterie.texts.packing import encode
from coterie.texts.plain_text import split_text
from coterie.texts.sets import split_documents
from coterie.texts.specs import read_documents

CHINESE = "这是一个没有空格的中文文本，用来测试语言模型的剪枝。"
ROWS = [{"id": str(i), "text": f'a "quoted", long\ntext {i}'} for i in range(3)]


@pytest.fixture
def tokenizer():
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), bos_token="<s>")


@pytest.fixture
def read(tokenizer):
    def read(spec, **asked):
        return read_documents(str(spec), tokenizer, rng=np.random.default_rng(0), **asked)

    return read


def texts(documents):
    return [document.text for document in documents]


def save(path, rows=ROWS):
    """The same rows as a file of the kind that its name says."""
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    if kind in ("csv", "tsv"):
        with path.open("w", newline="", encoding="utf-8") as stream:
            made = csv.DictWriter(stream, list(rows[0]), delimiter="\t" if kind == "tsv" else ",")
            made.writeheader()
            made.writerows(rows)
    elif kind == "parquet":
        parquet.write_table(arrow.Table.from_pylist(rows), path)
    elif kind == "json":
        path.write_text(json.dumps(rows))
    else:
        path.write_text("\n".join(map(json.dumps, rows)))
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(path.read_bytes()))
    return path


KINDS = ["csv", "tsv", "jsonl", "json", "parquet"]


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_table_reads_the_same_packed_or_not(kind, packed, tmp_path, read):
    path = save(tmp_path / f"rows.{kind}{packed}")
    assert texts(read(path)) == [row["text"] for row in ROWS]
    assert texts(read(f"{path}:id")) == ["0", "1", "2"]
    with pytest.raises(TextError, match="has no column 'body'; its columns are"):
        read(f"{path}:body")


def test_a_packed_text_reads_as_the_text_alone_and_in_a_folder(tmp_path, read):
    plain, packed = tmp_path / "a.txt", tmp_path / "b.txt.gz"
    plain.write_text("one word and then another " * 40)
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert texts(read(plain)) == texts(read(packed))
    save(tmp_path / "c.csv")
    names = [document.name for document in read(tmp_path)]
    assert names == ["a.txt", "b.txt.gz", "c.csv:3", "c.csv:5", "c.csv:7"]


NOT_READ = [
    ("a.txt.gz", b"no gzip at all", "cannot be unpacked"),
    ("a.txt.gz", gzip.compress(b"words " * 999)[:-30], "cannot be unpacked"),
    ("a.txt.zst", b"\x28\xb5\x2f\xfd", "packed in a way that is not read"),
    ("a.zip", b"PK\x03\x04", "packed in a way that is not read"),
    ("a.txt", gzip.compress(b"words"), r"holds something else \(gzip\)"),
    ("a.txt", b"PK\x03\x04....", "holds something else"),
    ("a.txt", b"%PDF-1.7", r"holds something else \(PDF\)"),
    ("a", b"PAR1....", r"holds something else \(Parquet\)"),
    ("a.txt", b"words " * 9 + b"\0" * 99, r"holds a zero byte \(byte 54\)"),
    ("a.csv", b"text,text\na,b\n", "has 2 columns 'text'"),
    ("a.jsonl", b'{"messages": ["hi"]}', "has a message that is of type str; a message is"),
    *((f"a.{end}", b"<b>x</b>", f"ends in .{end}, which is no kind of text that is read")
      for end in ("pdf", "docx", "html", "xml", "arrow", "xlsx", "yaml")),
    ("a.csv", b"text,label\nfirst, with a comma,1\n", "line 2 has more cells"),
    ("a.csv", b'text,label\n"never closed,1\n', "is not CSV"),
    ("a.csv", b"some text\nwithout any column\n", "has no column 'text' or 'content'"),
    ("a.csv", b"", "is empty"),
    ("a.csv", b"text\n", "is empty"),
    ("a.csv", b"text\ncaf\xe9\n", "not UTF-8"),
    ("a.jsonl", b'{"id": ' + b"9" * 5000 + b', "text": "a"}', "line 1 holds a number that cannot"),
    ("a.jsonl", b'{"text": "a", "x": ' + b"[" * 99_999, "line 1 is nested too deep"),
    ("a.jsonl", b'{"text": "a \\ud83d"}', r"'text' holds half of a character \(\\ud83d"),
    ("a.jsonl", b'"\\udc00"', r"line 1 holds half of a character"),
    ("a.parquet", b"PAR1" + b"0" * 99 + b"PAR1", "cannot be read as Parquet"),
]  # fmt: skip


# By numbers: bytes of a packed file hold the time, and names of tests must not change.
@pytest.mark.parametrize(("name", "content", "complaint"), NOT_READ, ids=range(len(NOT_READ)))
def test_what_is_not_known_is_refused_in_one_line(name, content, complaint, tmp_path, read):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TextError, match=complaint) as refused:
        read(tmp_path / name)
    assert "\n" not in str(refused.value) and str(tmp_path) not in str(refused.value)


def test_what_is_neither_file_nor_folder_says_so(tmp_path, read):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TextError, match="neither a file nor a folder"):
        read(tmp_path / "pipe")


@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet"])
def test_null_rows_are_left_out_and_counted(kind, tmp_path, read):
    rows = [{"text": None if i in (1, 4) else f"text {i}"} for i in range(6)]
    path = save(tmp_path / f"rows.{kind}", rows)
    documents = read(path)
    assert texts(documents) == ["text 0", "text 2", "text 3", "text 5"]
    assert {document.source.nulls for document in documents} == {2}
    assert str(documents[0].source).endswith(", less 2 rows that are null")
    with pytest.raises(TextError, match="is null; it must be a text"):
        read(save(tmp_path / f"all.{kind}", [{"text": None}] * 3))


def test_a_short_row_of_a_csv_is_null(tmp_path, read):
    (tmp_path / "a.csv").write_text("id,text\n1,first\n2\n3,third\n")
    documents = read(tmp_path / "a.csv")
    assert texts(documents) == ["first", "third"]
    assert documents[0].source.nulls == 1


@pytest.mark.parametrize("end", ["", "\n"])
@pytest.mark.parametrize("times", [4, 400, 4000])
def test_a_text_without_spaces_is_cut_by_characters(times, end, read):
    text = (CHINESE + end) * times
    documents = split_text(text, alone=True)
    assert "".join(documents) == text
    target = min(4_000, len(text) // 8)
    assert all(target / 2 <= len(one) <= 1.5 * target + len(CHINESE) + 1 for one in documents)


def test_a_book_in_a_table_can_judge_by_its_other_half(tmp_path, read):
    book = "Some words of a long book. " * 900
    path = save(tmp_path / "book.json", [{"text": book}])
    (document,) = read(path)
    sides = split_documents([document], seed=0)
    assert all(sides)
    assert sorted("".join(texts(sides[0] + sides[1]))) == sorted(book)


u = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]
REFUSALS = {
    "it refuses the role": "{% if messages[0]['role'] == 'user' %}{{ raise_exception('No user') }}"
    "{% endif %}",
    "its syntax is wrong": "{% for m in messages %}{{ m['content'] }}",
    "it leaves the sandbox": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "none of several is the default": {"rag": "x", "tools": "y"},
}


@pytest.mark.parametrize("template", REFUSALS.values(), ids=REFUSALS)
def test_a_template_that_fails_is_one_line_with_its_row(template, tmp_path, read, tokenizer):
    tokenizer.chat_template = template
    path = save(tmp_path / "chat.jsonl", [{"messages": u}])
    with pytest.raises(TextError, match=r"'chat\.jsonl', line 1, .* chat template") as refused:
        read(path)
    assert "\n" not in str(refused.value)


def test_a_tokenizer_that_raises_is_one_line():
    class PanicException(BaseException):
        """What a library in Rust raises."""

    for error in (TypeError("no str"), PanicException("index out of range"), KeyError(3)):

        def failing(text, error=error, **_):
            raise error

        with pytest.raises(TextError, match="tokenizer refuses the text that begins 'some words'"):
            encode(failing, "some words")


@pytest.mark.parametrize("verb", ["prune", "values", "evaluate"])
@pytest.mark.parametrize("given", ["0", "1", "-3"])
def test_a_length_of_nothing_is_refused_not_replaced(verb, given, tmp_path, capsys):
    amount = {"prune": ["--remove", "2", "--output", str(tmp_path / "out")]}.get(verb, [])
    assert main([verb, "reference", "--length", given, *amount]) == 2
    assert f"--length {given} must be at least 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Who?", "completion": "Me."},
        {"instruction": "Who?", "output": "Me.", "id": 3},
    ],
)
def test_prompt_and_answer_are_one_text(row, tmp_path, read):
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    with (tmp_path / "rows.csv").open("w") as file:
        table = csv.DictWriter(file, list(row))
        table.writeheader()
        table.writerow(row)
    parquet.write_table(arrow.Table.from_pylist([row]), tmp_path / "rows.parquet")
    for kind in ("jsonl", "csv", "parquet"):
        assert texts(read(tmp_path / f"rows.{kind}")) == ["Who?\nMe."]


def test_share_gpt_rows_go_through_the_chat_template(tmp_path, tokenizer):
    tokenizer.chat_template = "{% for m in messages %}<{{m.role}}>{{m.content}}{% endfor %}"
    talk = [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "Me."}]
    file = tmp_path / "talks.jsonl"
    file.write_text(json.dumps({"conversations": talk}))
    found = read_documents(str(file), tokenizer, rng=np.random.default_rng(0))
    assert texts(found) == ["<user>Who?<assistant>Me."]


def test_an_address_is_no_name_of_a_data_set(read):
    with pytest.raises(TextError, match="is an address, and none is fetched: save it to a file"):
        read("https://example.org/a.txt")
