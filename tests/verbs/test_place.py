"""No run takes away what it reads, what holds its store, or what another run made meanwhile."""

import errno
import json
import re
import shutil
from pathlib import Path

import pytest
from tests.tiny import save_llama, save_text, words

import coterie
from coterie.cli import main
from coterie.errors import UserError
from coterie.models.cutting.write import write_cut
from coterie.models.files.sources import resolve
from coterie.verbs.checkpoint_requests import CutRequest
from coterie.verbs.outputs import exchange as exchanging
from coterie.verbs.outputs import place as places
from coterie.verbs.outputs.place import OutputFolder

GAME = ["--calibration", "{text}", "--sequences", "4", "--length", "16", "--device", "cpu"]
PRUNE = ["prune", "{full}", "--remove", "1", "--method", "one-shot", *GAME]
SPARSIFY = ["sparsify", "{full}", "--sparsity", "0.5", "--allocation", "uniform"]
SPARSIFY += ["--pruner", "magnitude", *GAME]
HEAL = ["heal", "{cut}", "--teacher", "{full}", "--text", "{text}", "--held-out", "{judges}"]
HEAL += ["--mode", "full", "--steps", "1", "--batch", "2", "--device", "cpu"]
REPAIR = [*HEAL[: HEAL.index("--mode")], "--sequences", "4", "--device", "cpu"]
REPAIR[0] = "repair"
COMPARE = ["compare", "{full}", "--remove", "1", "--methods", "one-shot", "--seeds", "1"]
COMPARE += ["--rounds", "0", *GAME]
VERBS = {
    "cut": ["cut", "{full}", "--layers", "1"],
    "prune": PRUNE,
    "composed": [*PRUNE, "--quantize", "int8"],
    "sparsify": SPARSIFY,
    "heal": HEAL,
    "repair": REPAIR,
    "quantize": ["quantize", "{full}", "--held-out", "{judges}", "--device", "cpu"],
    "compare": COMPARE,
    "prune --dry-run": [*PRUNE, "--dry-run"],
    "composed --dry-run": [*PRUNE, "--quantize", "int8", "--dry-run"],
    "sparsify --dry-run": [*SPARSIFY, "--dry-run"],
}
SOURCES = {name: "cut" if name in ("heal", "repair") else "full" for name in VERBS}

# What the output is, in terms of the folder of the source.
OVERLAPS = {
    "is its source": "{source}",
    "is a link to its source": "{home}/link-to-{name}",
    "contains its source": "{home}/lib",
    "is inside its source": "{source}/inside",
    "is inside by a link": "{home}/link-to-{name}/inside",
    "contains its texts": "{home}/texts",
    "holds the store": "{home}/kept",
    "is the teacher": "{full}",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    for folder in ("lib", "texts", "kept"):
        (home / folder).mkdir()
        (home / folder / "config.json").write_text("{}")
    save_llama(home / "lib" / "full")
    (home / "lib" / "cut").mkdir()
    write_cut(resolve(str(home / "lib" / "full")), [0, 1, 3, 4, 5], home / "lib" / "cut")
    save_text(home / "texts" / "text.txt", words()[::2])
    save_text(home / "texts" / "judges.txt", words()[1::2])
    (home / "kept" / "store.sqlite").write_bytes(b"")
    for name in ("full", "cut"):
        (home / f"link-to-{name}").symlink_to(home / "lib" / name)
    return home


@pytest.fixture(autouse=True)
def stored(home, monkeypatch):
    monkeypatch.setenv("COTERIE_STORE", str(home / "kept" / "store.sqlite"))


def words_of(home, verb, output, *more):
    lib, texts = home / "lib", home / "texts"
    named = {"full": lib / "full", "cut": lib / "cut"}
    named |= {"text": texts / "text.txt", "judges": texts / "judges.txt"}
    line = [word.format(**named) for word in VERBS[verb]]
    return [*line, "--output", str(output), *more]


def content(folder):
    """Every file below a folder, byte for byte, and every link."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = str(path.readlink())
        else:
            found[name] = path.read_bytes() if path.is_file() else None
    return found


def one_line(capsys):
    said = [line for line in capsys.readouterr().err.splitlines() if line]
    assert sum(line.startswith("error") for line in said) <= 1
    return said[-1]


@pytest.mark.parametrize("overlap", OVERLAPS)
@pytest.mark.parametrize("verb", VERBS)
def test_nothing_that_is_read_is_replaced(verb, overlap, home, capsys):
    if verb.startswith(("quantize", "composed")):
        pytest.importorskip("torchao")
    if verb == "cut" and "texts" in overlap:
        pytest.skip("a cut reads no text")
    name = SOURCES[verb]
    source, full = home / "lib" / name, home / "lib" / "full"
    output = OVERLAPS[overlap].format(source=source, home=home, name=name, full=full)
    before = content(home)
    assert main(words_of(home, verb, output, "--overwrite")) == 2
    assert "overlaps the folder of" in one_line(capsys)
    assert content(home) == before


@pytest.mark.parametrize("verb", [name for name in VERBS if "dry" not in name])
def test_a_folder_filled_meanwhile_is_left_alone(verb, home, tmp_path, capsys, monkeypatch):
    if verb.startswith(("quantize", "composed")):
        pytest.importorskip("torchao")
    output, real = tmp_path / "out", exchanging.exchange

    def meanwhile(place, new, **options):
        if place == output:
            output.mkdir()
            (output / "precious.txt").write_text("of another run")
        real(place, new, **options)

    monkeypatch.setattr(places, "exchange", meanwhile)
    monkeypatch.setenv("COTERIE_STORE", str(tmp_path / "store.sqlite"))
    before = content(home)
    assert main(words_of(home, verb, output)) == 2
    assert "was filled by another run" in one_line(capsys)
    assert content(output) == {"precious.txt": b"of another run"}
    assert content(home) == before
    assert not [path for path in tmp_path.glob(".out.*") if path.is_dir()]


@pytest.fixture
def model(tmp_path):
    """A folder that is known to be a checkpoint."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"of": "the model"}')
    return tmp_path / "model"


def test_what_links_in_a_model_lead_to_is_kept(model, tmp_path):
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "config.json").write_text("{}")
    (tmp_path / "blobs" / "abc").write_bytes(b"weights")
    (model / "model.safetensors").symlink_to(tmp_path / "blobs" / "abc")
    request = CutRequest(str(model), layers=(1,))
    with pytest.raises(UserError, match="overlaps"):
        OutputFolder(tmp_path / "blobs", request, overwrite=True).check()


@pytest.mark.parametrize("inside", [".out.old", ".out.stages", ".out.partial-999999999"])
def test_a_model_in_the_working_folders_of_a_run_is_kept(inside, model, tmp_path):
    there = tmp_path / inside / "cut"
    shutil.copytree(model, there)
    place = OutputFolder(tmp_path / "out", CutRequest(str(there), layers=(1,)), working=("stages",))
    with pytest.raises(UserError, match="overlaps the folder of the model"):
        place.check()
    with pytest.raises(UserError, match="overlaps"), place.written():
        pass
    assert (there / "config.json").is_file()


@pytest.mark.parametrize("point", ["out", "out/inside"])
def test_no_mount_point_is_replaced_or_emptied(point, tmp_path, monkeypatch):
    (tmp_path / "out" / "inside").mkdir(parents=True)
    (tmp_path / "out" / "config.json").write_text("{}")
    table = tmp_path / "mountinfo"
    table.write_text(f"36 35 98:0 / {tmp_path / point} rw - ext4 /dev/sda1 rw\n")
    monkeypatch.setattr(exchanging, "_MOUNTS", table)
    with pytest.raises(UserError, match="mount point"):
        OutputFolder(tmp_path / "out", overwrite=True).check()


@pytest.mark.parametrize("failing", ["out", "new"])
def test_a_rename_that_is_refused_leaves_what_was_there(failing, tmp_path, monkeypatch):
    output, rename = tmp_path / "out", Path.rename
    output.mkdir()
    (output / "config.json").write_text("old")

    def refuse(self, target):
        new = "partial" in self.name
        if new if failing == "new" else self.name == "out":
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    place = OutputFolder(output, overwrite=True)
    with pytest.raises(UserError, match="cross-device"), place.written() as folder:
        (folder / "config.json").write_text("new")
    assert content(tmp_path) == {"out": None, "out/config.json": b"old"}


def test_what_a_killed_run_had_put_away_is_seen(tmp_path):
    (tmp_path / ".out.old").mkdir()
    (tmp_path / ".out.old" / "config.json").write_text("old")
    with pytest.raises(UserError, match="not empty"):
        OutputFolder(tmp_path / "out").check()
    with OutputFolder(tmp_path / "out", overwrite=True).written() as folder:
        (folder / "config.json").write_text("new")
    assert content(tmp_path) == {"out": None, "out/config.json": b"new"}


@pytest.mark.parametrize("name", ["x" * 300, "nul\0byte", "loop/out"])
def test_a_path_that_cannot_be_is_one_line(name, tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(UserError, match="--output") as refused:
        OutputFolder(tmp_path / name).check()
    assert "\n" not in str(refused.value)


def test_a_file_for_mergekit_replaces_nothing_that_is_read(home, tmp_path, capsys):
    full, before = home / "lib" / "full", content(home)
    asked = ["cut", str(full), "--layers", "1", "--output", str(tmp_path / "out")]
    assert main([*asked, "--mergekit", str(full / "config.json")]) == 2
    assert "would replace a file that is read" in one_line(capsys)
    listed = tmp_path / "list.json"
    listed.write_text(json.dumps([1]))
    asked = ["cut", str(full), "--list", str(listed), "--output", str(tmp_path / "out")]
    assert main([*asked, "--mergekit", str(listed)]) == 2
    assert not (tmp_path / "out").exists()
    asked = ["cut", str(full), "--layers", "1", "--output", str(tmp_path / "out")]
    assert main([*asked, "--mergekit", str(tmp_path / "out")]) == 2
    assert "is the folder of --output: name a file" in one_line(capsys)
    assert not (tmp_path / "out").exists()
    assert main(asked) == 0
    made = content(tmp_path / "out")
    config = str(tmp_path / "out" / "config.json")
    base = ["--base", str(full)]
    exported = ["export", str(tmp_path / "out"), "--to", "mergekit", *base, "--output"]
    assert main([*exported, config]) == 2
    # An earlier config is written again.
    for _ in range(2):
        assert main([*exported, str(tmp_path / "out" / "cut.yml")]) == 0
    assert made.items() <= content(tmp_path / "out").items()
    assert content(home) == before


def test_no_verb_moves_or_deletes_folders_by_itself():
    verbs = Path(coterie.__file__).parent / "verbs"
    allowed = {"exchange.py"}
    # The stages of a composed run are folders of its own, beside its output.
    allowed |= {"stages.py", "staged_run.py", "cut_and_repair.py"}
    for file in verbs.rglob("*.py"):
        if file.name not in allowed:
            text = file.read_text(encoding="utf-8")
            assert not re.search(r"rmtree|\.rename\(|os\.(rename|replace)|rmdir\(\)", text) or (
                file.name in ("place.py", "evaluator.py", "repaired.py")  # they rename tensors
            ), file
