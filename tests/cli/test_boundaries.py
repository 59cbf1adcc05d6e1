"""Whatever another library raises, wherever it is called: exit 1 or 2, one line, no traceback."""

import json
import sqlite3
from importlib import import_module

import pytest
from safetensors import SafetensorError
from tests.tiny import save_llama, save_text, words

import coterie
from coterie.cli import main
from coterie.errors import CoterieError
from coterie.foreign import told
from coterie.models.cutting.write import write_cut
from coterie.models.files.sources import resolve

GAME = ["--sequences", "4", "--length", "16", "--device", "cpu"]


class PanicException(BaseException):
    """What a library in Rust raises when it meets what it did not foresee."""


class OutOfMemoryError(RuntimeError):
    """Named as torch's own."""


# Each library by the place where its code is entered; what it may raise there.
BOUNDARIES = {
    "a config class of transformers": ("transformers.AutoConfig.from_pretrained", KeyError("rope")),
    "a model class of transformers": (
        "transformers.AutoModelForCausalLM.from_pretrained",
        AttributeError("no attribute 'x'"),
    ),
    "building on the meta device": (
        "transformers.AutoModelForCausalLM.from_config",
        ZeroDivisionError("division by zero"),
    ),
    "the tokenizer's files": (
        "transformers.AutoTokenizer.from_pretrained",
        PanicException("index out of bounds"),
    ),
    "the tokenizer at work": (
        "transformers.PreTrainedTokenizerBase.__call__",
        TypeError("TextEncodeInput must be"),
    ),
    "safetensors": ("coterie.models.files.tensors.safe_open", SafetensorError("HeaderTooLarge")),
    "the disk, writing": ("coterie.models.cutting.write.write_shards", OSError(5, "I/O error")),
    "SQLite": ("sqlite3.connect", sqlite3.OperationalError("disk I/O error")),
    "SQLite, later": (
        "coterie.store.observations.Store._ask",
        sqlite3.DatabaseError("database disk image is malformed"),
    ),
    "the allocator of torch": ("torch.nn.Linear.forward", OutOfMemoryError("CUDA out of memory")),
    "the allocator of Python": ("torch.nn.Embedding.forward", MemoryError()),
    "json": ("json.loads", RecursionError("maximum recursion depth exceeded")),
    "a full disk, told by a library": (
        "transformers.PreTrainedModel.save_pretrained",
        SafetensorError("Error while serializing: No space left on device (os error 28)"),
    ),
    "torch": ("torch.nn.Linear.forward", NotImplementedError("no kernel for this type")),
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    save_llama(home / "full", n_layers=4)
    (home / "cut").mkdir()
    write_cut(resolve(str(home / "full")), [0, 1, 3], home / "cut")
    save_text(home / "text.txt", words()[::2])
    save_text(home / "judges.txt", words()[1::2])
    rows = [{"query": f"a {i} is", "choices": ["b", "c"], "gold": i % 2} for i in range(4)]
    (home / "sums.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return home


@pytest.fixture(autouse=True)
def stored(tmp_path, monkeypatch):
    monkeypatch.setenv("COTERIE_STORE", str(tmp_path / "store.sqlite"))


def commands(home, output):
    full, cut, text, judges = (str(home / name) for name in
                               ("full", "cut", "text.txt", "judges.txt"))  # fmt: skip
    game = [*GAME, "--calibration", text]
    learn = ["--teacher", full, "--text", text, "--held-out", judges, "--device", "cpu"]
    to = ["--output", str(output)]
    return {
        "prune": ["prune", full, "--remove", "1", "--method", "one-shot", *game, *to],
        "values": ["values", full, *game],
        "inspect": ["inspect", full],
        "cut": ["cut", full, "--layers", "1", *to],
        "evaluate": ["evaluate", full, cut, "--text", text, *GAME],
        "compare": ["compare", full, "--remove", "1", "--methods", "one-shot", "--seeds", "1",
                    "--rounds", "0", *game, *to],
        "bench": ["bench", full, "--context", "8", "--new-tokens", "2", "--rounds", "1"],
        "push": ["push", cut, "me/small", "--dry-run"],
        "export": ["export", full, "--to", "gguf"],
        "quantize": ["quantize", full, "--held-out", judges, "--device", "cpu", *to],
        "repair": ["repair", cut, *learn, "--sequences", "4", *to],
        "heal": ["heal", cut, *learn, "--mode", "full", "--steps", "1", "--batch", "2", *to],
        "sparsify": ["sparsify", full, "--sparsity", "0.5", "--allocation", "uniform",
                     "--pruner", "magnitude", *game, *to],
    }  # fmt: skip


VERBS = list(commands(import_module("pathlib").Path(), "o"))


def broken(monkeypatch, place, error):
    owner, _, name = place.rpartition(".")
    try:
        target = import_module(owner)
    except ImportError:
        module, _, kind = owner.rpartition(".")
        target = getattr(import_module(module), kind)
    met = []

    def fail(*_, **__):
        met.append(True)
        raise error

    monkeypatch.setattr(target, name, fail)
    return met


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_every_command_ends_in_one_line(boundary, home, tmp_path, capsys, monkeypatch):
    import_module("torch")
    met = broken(monkeypatch, *BOUNDARIES[boundary])
    reached = 0
    for verb in VERBS:
        met.clear()
        output = tmp_path / verb
        line = commands(home, output)[verb]
        code = main(line)
        said = capsys.readouterr()
        if not met:
            continue  # this verb does not come there
        reached += 1
        ours = [one for one in said.err.splitlines() if one.startswith("coterie: ")]
        assert (verb, code, "Traceback" in said.err) in ((verb, 1, False), (verb, 2, False)) or (
            code == 0 and not ours
        ), (verb, code, said.err)
        if code:
            assert len(ours) == 1, (verb, said.err)
            assert len(ours[0]) < 600
        left = [path.name for path in tmp_path.iterdir() if "partial" in path.name]
        assert not left and (code == 0 or not output.exists()), (verb, left)
    assert reached


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        OSError(122, "Disk quota exceeded"),
        SafetensorError("Error while serializing: No space left on device (os error 28)"),
        RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"),
        sqlite3.OperationalError("No space left on device"),
    ],
)
def test_a_full_disk_is_told_as_one_whoever_meets_it(error):
    assert "the disk is full" in str(told(error))


def test_every_python_verb_raises_one_of_ours(home, tmp_path, monkeypatch):
    broken(monkeypatch, *BOUNDARIES["a config class of transformers"])
    elsewhere = ("push", "runs")  # one needs an account, the other opens no model
    for name in (name for name in coterie.__all__ if name.islower() and name not in elsewhere):
        verb = getattr(coterie, name)
        kind = getattr(coterie, f"{name.capitalize()}Request")
        first = {"evaluate": (str(home / "full"),), "bench": (str(home / "full"),)}
        more = {
            "prune": {"remove": 1},
            "cut": {"layers": (1,)},
            "compare": {"removals": (1,)},
            "export": {"to": "gguf"},
            "sparsify": {"sparsity": 0.5},
        }.get(name, {})
        request = kind(first.get(name, str(home / "full")), **more)
        takes_output = name in ("prune", "cut", "compare", "quantize", "heal", "sparsify")
        with pytest.raises(CoterieError):
            verb(request, **({"output": tmp_path / "out"} if takes_output else {}))


def test_what_nobody_foresaw_is_told_with_its_library(home, capsys, monkeypatch):
    broken(monkeypatch, "coterie.verbs.inspect.complement", KeyError("nobody foresaw this"))
    broken(monkeypatch, "coterie.verbs.inspect.resolve_config", KeyError("nobody foresaw this"))
    assert main(["inspect", str(home / "full")]) == 1
    said = capsys.readouterr().err
    assert said.startswith("coterie: ") and said.count("\n") == 1
    assert "KeyError: nobody foresaw this" in said and "--verbose" in said
    assert main(["inspect", str(home / "full"), "--verbose"]) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err
