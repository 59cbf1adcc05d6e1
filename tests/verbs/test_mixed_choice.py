"""Cuts chosen by tasks: the coalition is worth most by the mix, and the record says by what."""

import json

import numpy as np
import pytest
import torch
from tests.tiny import save_llama, save_text
from transformers import AutoModelForCausalLM, AutoTokenizer

pytest.importorskip("lm_eval", reason="tasks need lm-evaluation-harness: the extra `eval`")

from coterie.cli import main
from coterie.game.coalitions import observe_all
from coterie.game.designs import all_of_size
from coterie.models.loaded.stack import find_stack
from coterie.scores.task_definitions import load_tasks
from coterie.scores.task_game import TaskGame
from coterie.scores.tasks import TaskSettings, score_tasks

N_LAYERS, ITEMS = 5, 4
ROWS = [
    {"query": f"badabo {i} is", "choices": ["bada", "fefi gogu", "gogu"], "gold": i % 3}
    for i in range(ITEMS)
]
MIX = "sums=0.5,kl=0.5"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("mixed")
    save_llama(home / "model", n_layers=N_LAYERS, dtype=torch.float32)
    save_text(home / "text.txt")
    (home / "tasks").mkdir()
    (home / "tasks" / "sums.jsonl").write_text("\n".join(json.dumps(row) for row in ROWS))
    return home


def prune(home, capsys, output, *more, code=0, model="model"):
    texts = ["--calibration", str(home / "text.txt"), "--store", str(home / "s.sqlite")]
    quick = ["--length", "16", "--sequences", "4", "--dtype", "float32", "--json"]
    where = ["--tasks-dir", str(home / "tasks"), "--output", str(home / output)]
    capsys.readouterr()
    assert main(["prune", str(home / model), *texts, *quick, *where, *more]) == code
    told = capsys.readouterr()
    return json.loads(told.out) if code == 0 else told.err.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def margins(home):
    """Mean margin of every coalition of three layers, and the game it was asked of."""
    model = AutoModelForCausalLM.from_pretrained(home / "model", dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(home / "model")
    task = load_tasks(["sums"], home / "tasks")["sums"]
    game = TaskGame(
        "sums", task, model, tokenizer, find_stack(model), settings=TaskSettings(limit=ITEMS)
    )
    coalitions = all_of_size(N_LAYERS, 3)
    return coalitions, game.scores(observe_all(game, coalitions), "margin").mean(axis=1)


def test_the_cut_is_the_best_of_all_by_the_task(home, capsys, margins):
    coalitions, values = margins
    record = prune(home, capsys, "task", "--remove", "2", "--utility", "sums")
    assert record["cut"]["kept"] == np.flatnonzero(coalitions[values.argmax()]).tolist()
    (part,) = record["utility"]["parts"]
    np.testing.assert_allclose(part["cut"], values.max(), atol=1e-4)
    # The checkpoint answers as the coalition did, and held-out text judges as ever.
    cut = AutoModelForCausalLM.from_pretrained(home / "task", dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(home / "task")
    (scores,) = score_tasks(load_tasks(["sums"], home / "tasks"), cut, tokenizer)
    np.testing.assert_allclose(scores.scores["margin"].mean(), part["cut"], atol=1e-4)
    assert record["verdict"]["after"]["perplexity"] > 0 and "summary" in record["verification"]


def test_the_record_names_the_mix_its_parts_and_what_layers_contribute(home, capsys):
    record = prune(home, capsys, "mix", "--remove", "2", "--utility", MIX)
    mix, choice = record["utility"], record["choice"]
    assert record["search"]["utility"] == mix["spec"] == MIX and f"--utility {MIX}" in (
        record["command"].replace("'", "")
    )
    assert [(part["name"], part["weight"]) for part in mix["parts"]] == [("sums", 0.5), ("kl", 0.5)]
    assert mix["unit"] == record["contributions"]["unit"] and mix["unit"] in choice["unit"]
    (here,) = choice["sizes"]
    chosen = sum(
        part["weight"] * (part["full"] - part["cut"]) / part["scale"] for part in mix["parts"]
    )
    # Items that chose nothing decide: their loss is another than that of the items that chose.
    assert choice["decided_apart"] and np.isfinite([here["loss"], chosen]).all()
    assert not np.isclose(here["loss"], chosen)
    assert min(one["behind"] for one in here["finalists"]) == 0
    for part in mix["parts"]:
        layers = part["contributions"]["layers"]
        told = [one["value"] for one in layers if one["value"] is not None]
        assert len(layers) == N_LAYERS and np.isfinite(told).all()
    card = (home / "mix" / "README.md").read_text()
    assert MIX in card and "nats per token |" not in card and str(home) not in json.dumps(record)


def test_a_finished_run_is_told_again_until_the_items_change(home, capsys, monkeypatch):
    asked = ["--remove", "2", "--utility", "sums", "--method", "greedy"]
    first = prune(home, capsys, "again", *asked)
    with monkeypatch.context() as none:
        none.setattr(TaskGame, "observe", lambda *_: pytest.fail("asked again"))
        assert prune(home, capsys, "again", *asked) == first
        assert prune(home, capsys, "twin", *asked)["cut"] == first["cut"]  # the store answers
    file = home / "tasks" / "sums.jsonl"
    before = file.read_text()
    try:
        file.write_text(before.replace("badabo", "fefi"))
        assert "not empty" in prune(home, capsys, "again", *asked, code=2)
    finally:
        file.write_text(before)


@pytest.mark.parametrize("method", ["paper", "one-shot", "contiguous"])
def test_every_method_cuts_by_utility(home, capsys, method):
    budget = ["--budget", "24"] if method == "paper" else []
    how = ["--utility", MIX, "--method", method, *budget]
    record = prune(home, capsys, f"by-{method}", "--target-params", "0.9", *how)
    assert record["target"]["after"] <= record["target"]["most"]
    assert all("cut" in part for part in record["utility"]["parts"])


def test_a_dry_run_counts_the_answers_and_keeps_none(home, capsys, margins):
    record = prune(home, capsys, "dry", "--remove", "2", "--utility", MIX, "--dry-run")
    plan = record["plan"]
    assert plan["answers"] == 3 * ITEMS and plan["at_most"] and plan["seconds"] > 0
    assert plan["layer_tokens_asked"] > 0 and not (home / "dry").exists()
    alone = prune(home, capsys, "dry", "--remove", "2", "--utility", "sums", "--dry-run")["plan"]
    assert alone["layer_tokens_asked"] == 0 and alone["distinct"] == plan["distinct"]


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (["--utility", MIX, "--players", "mlp"], "leave out --players mlp"),
        (["--utility", MIX, "--method", "evolve"], "--method evolve judges on parts"),
        (["--utility", MIX, "--stream"], "leave out --stream"),
        (["--utility", "sums,kl"], "--utility 'sums' cannot be read"),
        (["--utility", MIX, "--task-items", "0"], "--task-items 0 leaves nothing to ask"),
        (["--task-items", "7"], "tasks are asked for by --utility"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_nothing_is_written(home, capsys, more, complaint):
    line = prune(home, capsys, "bad", "--remove", "2", *more, code=2)
    assert line.startswith("coterie: ") and complaint in line
    assert not (home / "bad").exists()
