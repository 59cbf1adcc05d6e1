"""Habits of the ecosystem: options from a file, completion, what is kept, and commands to copy."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tests.tiny import N_LAYERS, save_llama, save_text

from coterie import PruneRequest, RunsRequest, prune, runs
from coterie.cli import main
from coterie.errors import LossError, UserError
from coterie.report.terminal.after_prune import next_lines
from coterie.verbs.outputs.records import read_record

QUICK = ["--sequences", "2", "--length", "16", "--method", "one-shot"]


def texts_of(home):
    return ["--calibration", str(home / "text.txt")]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A model, a text, a store, and a cut that breaks the model so that there is more to do."""
    home = tmp_path_factory.mktemp("home")
    save_llama(home / "model")
    save_text(home / "text.txt")
    before = os.environ.get("COTERIE_STORE")
    os.environ["COTERIE_STORE"] = str(home / "store.sqlite")
    words = ["prune", str(home / "model"), "--remove", "4", *QUICK, *texts_of(home)]
    assert main([*words, "--output", str(home / "out")]) == 0
    yield home
    del os.environ["COTERIE_STORE"]
    if before is not None:
        os.environ["COTERIE_STORE"] = before


BOUNDED = {
    "repair": ["--sequences", "2", "--method", "scalar"],
    "heal": ["--steps", "1", "--batch", "1", "--mode", "full"],
}


def test_what_is_printed_to_do_next_runs_as_it_is_printed(home):
    lines = next_lines(read_record(home / "out"), str(home / "model"), home / "out")
    commands = [shlex.split(line) for line in lines]
    verbs = [words[1] for words in commands if words[0] == "coterie"]
    assert verbs == ["repair", "heal"]
    for words in commands:
        if words[0] == "coterie":
            assert main([*words[1:], *BOUNDED[words[1]]]) == 0, words
        else:
            assert words[:2] == ["vllm", "serve"] and Path(words[2]).is_dir()


def test_a_loss_limit_from_python_keeps_the_folder(home):
    texts = {"calibration": str(home / "text.txt"), "sequences": 2, "length": 16}
    asked = PruneRequest(str(home / "model"), remove=4, method="one-shot", **texts)
    with pytest.raises(LossError, match="--max-loss allows"):
        prune(asked, output=home / "out", max_loss=1e-6)
    assert (home / "out" / "config.json").is_file()
    with pytest.raises(UserError, match="above 0"):
        prune(asked, output=home / "out", max_loss=-1.0)


def test_a_record_asks_for_the_same_again_and_what_is_typed_has_the_last_word(home, capsys):
    # A record names no folder of this machine: what it was made of is put back.
    asked = json.loads((home / "out" / "coterie.json").read_text())
    asked["request"] |= {"model": str(home / "model"), "calibration": str(home / "text.txt")}
    record = home / "record.json"
    record.write_text(json.dumps(asked))
    again = ["prune", "--config", str(record)]
    assert main([*again, "--output", str(home / "out"), "--json"]) == 0
    captured = capsys.readouterr()
    assert "finished run" in captured.err
    asked = json.loads(captured.out)["request"]
    assert (asked["remove"], asked["method"], asked["sequences"]) == (4, "one-shot", 2)
    words = ["--remove", "2", "--dry-run", "--json"]
    assert main([*again, *words, "--output", str(home / "two")]) == 0
    assert json.loads(capsys.readouterr().out)["request"]["remove"] == 2


def test_options_from_yaml_and_a_key_that_is_none(home, tmp_path, capsys):
    file = tmp_path / "run.yaml"
    file.write_text(
        f"model: {home / 'model'}\nremove: 4\nmethod: one-shot\nsequences: 2\nlength: 16\n"
        f"calibration: {home / 'text.txt'}\noutput: {home / 'out'}\n"
    )
    assert main(["prune", "--config", str(file)]) == 0
    assert "finished run" in capsys.readouterr().err
    file.write_text("model: reference\nremoove: 8\n")
    assert main(["prune", f"--config={file}", "--output", str(tmp_path / "o")]) == 2
    assert "did you mean remove?" in capsys.readouterr().err


def test_a_method_that_is_misspelt_has_a_neighbour(tmp_path, capsys):
    words = ["prune", "reference", "--remove", "2", "--output", str(tmp_path / "o")]
    assert main([*words, "--method", "Guidde"]) == 2
    assert "did you mean guided?" in capsys.readouterr().err


def test_a_shell_completes_commands_and_choices():
    script = "from coterie.cli import run; run()"
    env = {
        **os.environ,
        "_COTERIE_COMPLETE": "complete_bash",
        "COMP_WORDS": "coterie prune reference --method gr",
        "COMP_CWORD": "4",
    }
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True)
    assert "greedy" in done.stdout, done.stderr


def test_what_is_kept_is_listed_and_cleared(home, capsys):
    found = runs(RunsRequest())
    assert str(home / "out") in [one.folder for one in found.folders]
    kept = {one.model: one.observations for one in found.models}
    assert kept["model"] > 0
    assert main(["runs"]) == 0
    assert "model" in capsys.readouterr().out
    with pytest.raises(UserError, match="gone or all"):
        runs(RunsRequest(clear="nobody"))
    # Last: what comes after would observe everything again.
    assert runs(RunsRequest(clear="all")).cleared >= kept["model"]
    assert runs(RunsRequest()).models == () and (home / "out").is_dir()


def test_values_keep_their_report_in_a_file(home, tmp_path, capsys):
    file = tmp_path / "values.json"
    model = [str(home / "model"), *texts_of(home)]
    words = ["values", *model, "--estimator", "permutation", "--budget", "40"]
    store = ["--store", str(tmp_path / "s.sqlite"), "--output", str(file)]
    assert main([*words, *QUICK[:4], *store]) == 0
    assert len(json.loads(file.read_text())["contributions"]["layers"]) == N_LAYERS
    assert main([*words, "--output", str(tmp_path)]) == 2


def test_the_notebook_runs():
    page = Path(__file__).parents[2] / "examples" / "first_cut.ipynb"
    cells = json.loads(page.read_text(encoding="utf-8"))["cells"]
    names: dict[str, object] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    assert names["model"].config.num_hidden_layers == 14
    assert names["contributions"][0] == max(names["contributions"])
