"""Records, notes and options that somebody damaged: one line, and never half believed."""

import re
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.tiny import save_llama

import coterie
from coterie.cli import main
from coterie.errors import UserError
from coterie.plain import parsed
from coterie.report.schema.basics import SizePart
from coterie.report.schema.part import Part
from coterie.store.observations import Store
from coterie.verbs.shared.opened_model import noted_shape

DEEP = "[" * 100_000
TEXTS = {
    "nothing": "",
    "a half": '{"kind": "cut", "comm',
    "a list": "[]",
    "no kind": '{"kind": null}',
    "a kind that is a list": '{"kind": ["cut"]}',
    "nested too deep": '{"kind": "cut", "cut": ' + DEEP,
    "a number without end": '{"kind": "cut", "cut": ' + "9" * 5000 + "}",
    "a mark of a merge": "<<<<<<< HEAD",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    save_llama(home / "model")
    output = home / "cut"
    assert main(["cut", str(home / "model"), "--layers", "1", "--output", str(output)]) == 0
    return home


@pytest.fixture(autouse=True)
def stored(tmp_path, monkeypatch):
    monkeypatch.setenv("COTERIE_STORE", str(tmp_path / "store.sqlite"))


def ended(capsys):
    said = capsys.readouterr().err
    assert "not foreseen" not in said and "Traceback" not in said, said
    return [line for line in said.splitlines() if line.startswith("coterie: ")]


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_record_that_is_none_is_refused_by_all_who_read_it(text, home, tmp_path, capsys):
    cut = shutil.copytree(home / "cut", tmp_path / "cut")
    record = cut / "coterie.json"
    record.write_text(text)
    out, page = str(tmp_path / "out"), str(tmp_path / "page.html")
    for line in (
        ["report", str(cut), "--output", page],
        ["export", str(cut), "--to", "mergekit"],
        ["cut", str(home / "model"), "--list", str(record), "--output", out],
        ["push", str(cut), "me/small", "--dry-run", "--results", str(record)],
        ["inspect", str(home / "model"), "--config", str(record)],
    ):
        code = main(line)
        # Of options an empty file holds none.
        assert code == 2 or "--config" in line, line
        assert len(ended(capsys)) == (code == 2)
    assert not [path for path in tmp_path.iterdir() if path.name in ("out", "page.html")]


@dataclass(frozen=True)
class Held(Part):
    """One field of every kind."""

    word: str = ""
    yes: bool = False
    count: int = 0
    loss: float = 0.0
    names: list[str] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    inner: SizePart | None = None


EMPTY = Held().as_json()
WRONG = {
    "word": (5, None, ["a"], True),
    "yes": (1, "yes", None),
    "count": ("5", None, True, [5]),
    "loss": ("5", True, {}),
    "names": (5, "abc", None, {"a": 1}, [5]),
    "sizes": (5, [1], {"a": "b"}),
    "inner": (5, [], {}),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_field_of_another_kind_is_no_record(name):
    for other in WRONG[name]:
        with pytest.raises(ValueError, match=f"Held.{name}: "):
            Held.from_json({**EMPTY, name: other})


def test_a_number_may_be_written_as_json_writes_it():
    # What is not finite is null; a count that another program wrote may be 5.0.
    assert Held.from_json({**EMPTY, "loss": None}).loss is None
    assert Held.from_json({**EMPTY, "loss": 5, "count": 5.0}) == Held(loss=5.0, count=5)
    assert Held.from_json({**EMPTY, "of a newer version": 1}) == Held()


CHANGES = {
    "a game that is a list": "UPDATE game SET description = '[1]'",
    "a game nested too deep": f"UPDATE game SET description = '{DEEP}'",
    "a folder without a name": """UPDATE game SET description = '{"kind": "paths"}'""",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_store_that_somebody_changed_is_damaged(change, tmp_path, capsys):
    with Store(tmp_path / "store.sqlite") as store:
        store.game({"kind": "losses"})
    with closing(sqlite3.connect(tmp_path / "store.sqlite")) as db:
        db.execute(change)
        db.commit()
    capsys.readouterr()
    assert main(["runs"]) == 2
    (line,) = ended(capsys)
    assert "is damaged" in line and "--store" in line


@pytest.mark.parametrize("shape", [{"a": 1}, {"layer": "x"}, {}])
def test_a_shape_of_other_numbers_is_damage(shape, tmp_path):
    with (
        Store(tmp_path / "store.sqlite") as store,
        pytest.raises(UserError, match=r"is damaged .*--store"),
    ):
        noted_shape(shape, store)


@pytest.mark.parametrize("text", ["[]", "null", '"eos"'])
def test_a_generation_config_that_is_none_is_named(text, home, tmp_path, capsys):
    model = shutil.copytree(home / "model", tmp_path / "model")
    (model / "generation_config.json").write_text(text)
    assert main(["export", str(model), "--to", "gguf"]) == 2
    assert "generation_config.json of 'model' holds" in ended(capsys)[0]


@pytest.mark.parametrize("number", ["-5", "99999999999999999999", "[[1]]", '"x"', "true"])
def test_a_token_that_cannot_be_ends_no_answer(number, home, tmp_path, capsys):
    model = shutil.copytree(home / "model", tmp_path / "model")
    (model / "generation_config.json").write_text(f'{{"eos_token_id": {number}}}')
    assert main(["export", str(model), "--to", "ollama"]) in (0, 2)
    ended(capsys)


def test_a_switch_of_a_file_is_on_or_off(home, tmp_path, capsys):
    file = tmp_path / "run.yaml"
    for value in ("yes please", "1", "[true]"):
        file.write_text(f"layers: '1'\nstream: {value}\n")
        line = ["cut", str(home / "model"), "--output", str(tmp_path / "o"), "--config", str(file)]
        assert main(line) == 2
        assert "stream: " in (said := ended(capsys)[0]) and "true or false" in said


def test_what_nobody_wrote_is_read_by_one_function():
    with pytest.raises(ValueError, match="nested too deep"):
        parsed(DEEP)
    with pytest.raises(ValueError, match="digits"):
        parsed("9" * 5000)
    # These say in words of their own what is wrong with a file, or read what they wrote.
    own = {"plain.py", "json_files.py", "tensors.py", "tables.py", "records.py", "observations.py"}
    own |= {"same_tokens.py", "teacher_cache.py", "checkpoint.py", "environment.py"}
    for file in Path(coterie.__file__).parent.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        if re.search(r"json\.loads?\(", text) and "script" not in file.name:
            assert file.name in own, file
