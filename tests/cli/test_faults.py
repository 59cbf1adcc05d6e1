"""Mistakes of users, files and machines: one line each, exit 2 or 1, and nothing half-written."""

import errno
import io
import json
import os
import pwd
import shutil
import sys

import pytest
from tests.slow import slow
from tests.tiny import save_llama, save_text, tokenizer, words

from coterie.cli import main, run
from coterie.errors import MachineError, UserError
from coterie.foreign import told as told_of
from coterie.store.observations import Store
from coterie.store.sqlite_file import default_path

GAME = ["--sequences", "4", "--length", "16", "--device", "cpu"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    save_llama(home / "model")
    save_text(home / "text.txt", words()[::2])
    save_text(home / "judges.txt", words()[1::2])
    return home


@pytest.fixture(autouse=True)
def stored(tmp_path, monkeypatch):
    monkeypatch.setenv("COTERIE_STORE", str(tmp_path / "store.sqlite"))


@pytest.fixture
def model(home, tmp_path):
    return shutil.copytree(home / "model", tmp_path / "model")


def told(capsys):
    """The one line that a run ended with."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert "Traceback (most recent call last):" not in lines
    assert sum(line.startswith("coterie: ") for line in lines) == 1
    return lines[-1]


def prune(home, model, output, *more, method="one-shot"):
    text = ["--calibration", str(home / "text.txt")]
    return ["prune", str(model), "--remove", "1", "--method", method, *GAME, *text,
            "--output", str(output), *more]  # fmt: skip


def edit(file, **fields):
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


# The terminal.
@pytest.mark.parametrize(
    "encoding", ["ascii", slow("latin-1"), slow("cp1252"), slow("cp437"), "shift_jis"]
)
def test_a_terminal_that_is_not_utf8_shows_stand_ins(encoding, home, tmp_path, monkeypatch):
    import io

    streams = {name: io.TextIOWrapper(io.BytesIO(), encoding) for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)
    output = tmp_path / "out_é"
    assert main(prune(home, home / "model", output)) == 0
    assert main(["evaluate", str(home / "model"), "--text", str(home / "text.txt"), *GAME[:4],
                 "--json"]) == 0  # fmt: skip
    monkeypatch.undo()
    streams["stdout"].flush()
    shown = streams["stdout"].buffer.getvalue().decode(encoding)
    assert "+/-" in shown or "±" in shown
    report = json.loads(shown[shown.index("\n{") :])
    assert report["models"][0]["name"] == "model"
    assert (output / "coterie.json").is_file()


def test_a_name_that_is_no_text_is_refused_in_words(home, tmp_path, capsys):
    strange = os.fsdecode(b"m\xffodel")
    assert main(["cut", str(tmp_path / strange), "--layers", "1", "--output", "o"]) == 2
    told(capsys)
    shutil.copytree(home / "model", tmp_path / strange)
    assert main(prune(home, tmp_path / strange, tmp_path / "out")) == 2
    assert "rename it" in told(capsys)
    assert main(prune(home, home / "model", tmp_path / strange)) == 2
    assert "rename it" in told(capsys)
    assert not (tmp_path / "out").exists()


# The user and the home folder.
def test_without_a_home_folder_the_way_out_is_told(monkeypatch, capsys, home, tmp_path):
    def nobody(number):
        raise KeyError(number)

    for name in ("HOME", "COTERIE_STORE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    monkeypatch.chdir(tmp_path)  # `~nobodyhere` may be a folder of that name
    with pytest.raises(UserError, match=r"no home folder .* --store"):
        default_path()
    assert main(prune(home, home / "model", tmp_path / "out")) == 2
    assert "--store" in told(capsys)
    assert main(prune(home, home / "model", tmp_path / "o", "--store", str(tmp_path / "s"))) == 0
    for spec in (["--held-out", "~nobodyhere/text.txt"], ["--store", "~nobodyhere/s"]):
        code = main(prune(home, home / "model", tmp_path / "out2", *spec))
        assert code in (0, 2)
    assert main(["inspect", "~nobodyhere/model"]) == 2


def test_a_store_in_a_folder_that_may_not_be_entered(tmp_path, monkeypatch):
    from pathlib import Path

    real = Path.exists

    def exists(path, **more):
        if path.name == "closed.sqlite":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, **more)

    monkeypatch.setattr(Path, "exists", exists)
    with pytest.raises(UserError, match=r"cannot use .* as a store .*--store"):
        Store(tmp_path / "closed.sqlite")


@pytest.mark.parametrize("what", ["header", "page", slow("note"), slow("number"), "table"])
def test_a_damaged_store_is_one_line(what, home, tmp_path, capsys):
    import sqlite3

    store = tmp_path / "store.sqlite"
    assert main(prune(home, home / "model", tmp_path / "first")) == 0
    db = sqlite3.connect(store)
    db.execute("PRAGMA journal_mode=DELETE")
    if what == "note":
        db.execute("UPDATE note SET content = '{'")
    elif what == "number":
        db.execute("UPDATE observation SET nll = 'x'")
    elif what == "table":
        db.execute("DROP TABLE note")
        db.execute("CREATE TABLE note (a)")
    db.commit()
    db.close()
    content = bytearray(store.read_bytes())
    if what == "header":
        content[:64] = bytes(64)
    elif what == "page":
        content[4096:] = b"\xff" * len(content[4096:])
    store.write_bytes(content)
    capsys.readouterr()
    assert main(prune(home, home / "model", tmp_path / "second")) in (1, 2)
    assert "store" in told(capsys)
    assert not (tmp_path / "second").exists()


# Models.
def test_a_tokenizer_with_code_of_its_own_names_the_flag(model, home, tmp_path, capsys):
    edit(model / "tokenizer_config.json", auto_map={"AutoTokenizer": ["tok.Foo", None]},
         tokenizer_class="Foo")  # fmt: skip
    assert main(prune(home, model, tmp_path / "out")) == 2
    assert "--trust-remote-code" in told(capsys)


def test_tokens_beyond_the_embedding_are_not_exported(model, capsys):
    assert main(["export", str(model), "--to", "gguf"]) == 0
    capsys.readouterr()
    more = tokenizer()
    more.add_tokens(["<|im_start|>", "<|im_end|>"])
    more.save_pretrained(model)
    assert main(["export", str(model), "--to", "gguf"]) == 2
    assert "resize_token_embeddings" in told(capsys)


def test_a_text_of_tokens_beyond_the_embedding_is_one_line(model, home, tmp_path, capsys):
    more = tokenizer()
    more.add_tokens(["bada"])
    more.save_pretrained(model)
    assert main(prune(home, model, tmp_path / "out")) == 2
    assert "rows" in told(capsys)
    text = ["--text", str(home / "text.txt")]
    assert main(["evaluate", str(model), *text, "--length", "16"]) == 2
    assert "rows" in told(capsys)


def test_what_is_quantized_is_not_made_sparse(home, tmp_path, capsys):
    pytest.importorskip("torchao")
    quantized = tmp_path / "q"
    assert main(["quantize", str(home / "model"), "--scheme", "int8", "--device", "cpu",
                 "--held-out", str(home / "judges.txt"),
                 "--output", str(quantized)]) == 0  # fmt: skip
    capsys.readouterr()
    text = str(home / "text.txt")
    for rule in (["--allocation", "uniform", "--pruner", "magnitude"], ["--allocation", "guided"]):
        assert main(["sparsify", str(quantized), "--sparsity", "0.5", *rule, *GAME,
                     "--calibration", text, "--output", str(tmp_path / "out")]) == 2  # fmt: skip
        assert "quantized" in told(capsys)
    for verb in (["heal", str(quantized), "--teacher", str(home / "model"), "--steps", "1"],
                 ["repair", str(quantized), "--teacher", str(home / "model")]):  # fmt: skip
        assert main([*verb, "--text", text, "--held-out", str(home / "judges.txt"), "--device",
                     "cpu", "--output", str(tmp_path / "out")]) == 2  # fmt: skip
        told(capsys)
    assert main(["cut", str(quantized), "--layers", "1", "--output", str(tmp_path / "c")]) in (0, 2)
    assert not (tmp_path / "out").exists()


def test_a_cut_of_blocks_can_lose_whole_layers_afterwards(home, tmp_path, capsys):
    blocks = tmp_path / "blocks"
    code = main(prune(home, home / "model", blocks, "--players", "attention", "--lock", "0"))
    assert code == 0
    record = json.loads((blocks / "coterie.json").read_text())
    capsys.readouterr()
    for layer in range(1, 6):
        output = tmp_path / f"without-{layer}"
        code = main(["cut", str(blocks), "--layers", str(layer), "--output", str(output),
                     "--trust-remote-code"])  # fmt: skip
        assert code == 0, (capsys.readouterr().err, record["cut"]["removed_labels"])
    assert main(prune(home, blocks, tmp_path / "again", "--trust-remote-code")) == 0


def test_two_models_of_one_name_are_told_apart(home, tmp_path, capsys):
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        shutil.copytree(home / "model", tmp_path / place / "m")
    models = [str(tmp_path / place / "m") for place in ("a", "b")]
    text = ["--text", str(home / "text.txt")]
    assert main(["evaluate", *models, *text, *GAME[:4], "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["models"]
    assert [row["name"] for row in rows] == ["a/m", "b/m"]
    asked = ["--context", "8", "--new-tokens", "2", "--rounds", "1"]
    assert main(["bench", *models, *asked, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["name"] for row in rows] == ["a/m", "b/m"]


def test_a_figure_replaces_nothing_that_is_read(home, tmp_path, capsys):
    text = tmp_path / "text.svg"
    text.write_text("words " * 4000)
    figure = ["--figure", str(text), "--text", str(text)]
    assert main(["bench", str(home / "model"), "--context", "8", "--new-tokens", "2", *figure]) == 2
    told(capsys)
    inside = home / "model" / "picture.svg"
    inside.write_text("of the model")
    code = main(["bench", str(home / "model"), "--context", "8", "--new-tokens", "2", "--figure",
                 str(inside), "--text", str(home / "text.txt")])  # fmt: skip
    assert code == 2
    assert "would replace a file that is read" in told(capsys)
    assert inside.read_text() == "of the model"
    inside.unlink()


def test_a_link_that_leads_outside_is_not_uploaded(model, tmp_path, capsys):
    secret = tmp_path / "secret.json"
    secret.write_text("{}")
    (model / "generation_config.json").unlink(missing_ok=True)
    (model / "generation_config.json").symlink_to(secret)
    assert main(["cut", str(model), "--layers", "1", "--output", str(tmp_path / "out")]) == 0
    for name in ("generation_config.json", "LICENSE"):
        (tmp_path / "out" / name).unlink(missing_ok=True)
        (tmp_path / "out" / name).symlink_to(secret)
        capsys.readouterr()
        assert main(["push", str(tmp_path / "out"), "me/small", "--dry-run"]) == 2
        assert "outside" in told(capsys)
        (tmp_path / "out" / name).unlink()


# Paths.
@pytest.mark.parametrize("option", ["--calibration", "--held-out", "--store", "--output", "model"])
@pytest.mark.parametrize("path", ["x" * 5000, "a\0b", "~nobodyhere/x", ""])
def test_a_path_that_cannot_be_is_one_line(option, path, home, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)  # `~nobodyhere` may be a folder of that name
    asked = prune(home, home / "model", tmp_path / "out")
    asked = ["prune", path, *asked[2:]] if option == "model" else [*asked, option, path]
    assert main(asked) in (0, 2) if option == "--store" else main(asked) == 2
    if capsys.readouterr().err.count("coterie: "):
        assert not (tmp_path / "out").exists()


# What is printed.
class Printed(io.StringIO):
    """Standard output that holds what is printed until its end, and then cannot write it."""

    def flush(self):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_what_cannot_be_printed_at_the_end_is_one_line(home, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["coterie", "inspect", str(home / "model")])
    monkeypatch.setattr("sys.stdout", Printed())
    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code == 1
    assert "could not be written (No space left on device)" in told(capsys)


def test_standard_streams_that_are_closed(home, monkeypatch):
    monkeypatch.setattr("sys.stdout", None)
    monkeypatch.setattr("sys.stderr", None)
    assert main(["inspect", str(home / "model")]) == 0
    assert main(["inspect", "nowhere"]) == 2


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), "has closed it"),
        (OSError(errno.EFBIG, "File too large"), "the disk is full (File too large)"),
    ],
)
def test_errors_of_the_machine_say_what_they_are(error, says):
    ours = told_of(error)
    assert isinstance(ours, MachineError) and says in str(ours)
