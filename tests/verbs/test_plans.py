"""Plans: fast, bounded by what is asked, and for every verb that searches."""

import subprocess
import sys

import numpy as np
import pytest
from tests.tiny import save_llama, save_text

from coterie import PruneRequest, ValuesRequest
from coterie.cli import main
from coterie.engine.model_game import ModelGame
from coterie.engine.walk import Walker
from coterie.testing.tiny import tiny_model
from coterie.verbs.compare.methods import methods
from coterie.verbs.prune.whole import prune_plan
from coterie.verbs.values.plan import values_plan


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("plans")
    save_llama(home / "model", n_layers=12)
    save_text(home / "text.txt")
    return home


def asked_of(home, kind, **options):
    text = str(home / "text.txt")
    return kind(str(home / "model"), calibration=text, sequences=4, length=16, **options)


def planned(home, tmp_path, **options):
    asked = asked_of(home, PruneRequest, remove=3, **options)
    return prune_plan(asked, output=tmp_path / "out", store=tmp_path / "s.sqlite").record.plan


def test_a_plan_is_bounded_by_budget_and_time_and_holds_every_part(home, tmp_path):
    plan = planned(home, tmp_path, budget=150, time=0.5, repair="none")
    assert plan.distinct <= 150
    times = {one.what: one for one in plan.times}
    assert list(times) == [
        "preparing and loading", "searching", "deciding between finalists", "judging",
        "writing and checking",
    ]  # fmt: skip
    assert times["searching"].most <= max(0.5, plan.seconds) + 60
    assert all(0 <= one.expected <= one.most for one in plan.times)
    assert plan.expected_seconds == pytest.approx(sum(one.expected for one in plan.times))
    assert plan.most_seconds == pytest.approx(sum(one.most for one in plan.times))


def test_what_is_not_done_in_the_time_is_not_in_the_plan(home, tmp_path):
    whole = planned(home, tmp_path, method="guided", repair="none")
    plan = planned(home, tmp_path, method="guided", repair="none", time=0.001)
    assert plan.distinct < whole.distinct and plan.layer_executions < whole.layer_executions
    (searching,) = [one for one in plan.times if one.what == "searching"]
    assert plan.seconds == pytest.approx(searching.most)


def test_repair_is_in_the_time_of_a_plan(home, tmp_path):
    plan = planned(home, tmp_path, method="one-shot", repair="scalar")
    assert "repair" in [one.what for one in plan.times]


@pytest.mark.parametrize(
    "asked", [{"front": True}, {"budget": 90}, {"estimator": "permutation", "budget": 64}]
)
def test_values_have_a_plan_too(asked, home, tmp_path):
    request = asked_of(home, ValuesRequest, **asked)
    plan = values_plan(request, store=tmp_path / "s.sqlite").record.plan
    assert plan.distinct <= max(409, asked.get("budget", 409))
    assert {"preparing and loading", "searching"} <= {one.what for one in plan.times}
    assert not (tmp_path / "s.sqlite").exists()


def test_a_comparison_has_a_plan_with_a_line_for_every_method(home, tmp_path, capsys):
    names = ("guided", "sleb", "random", "paper")
    words = ["compare", str(home / "model"), "--remove", "2,3", "--methods", ",".join(names)]
    texts = ["--calibration", str(home / "text.txt"), "--sequences", "4", "--length", "16"]
    assert main([*words, "--dry-run", *texts, "--store", str(tmp_path / "s.sqlite")]) == 0
    told = capsys.readouterr().out
    assert all(methods()[name].title in told for name in names) and "judging" in told
    assert max(map(len, told.splitlines())) <= 80
    assert not (tmp_path / "s.sqlite").exists()


def test_seconds_are_told_without_a_pass_of_the_model(monkeypatch):
    model = tiny_model("llama", 4)
    game = ModelGame(model, np.arange(64).reshape(4, 16) % 50)

    def full(*_, **__):
        raise AssertionError("a full pass")

    monkeypatch.setattr(Walker, "full", full)
    monkeypatch.setattr(Walker, "observe", full)
    found = game.seconds()
    assert found.layer > 0 and found.rest > 0


@pytest.mark.parametrize("wrong", ["model", "output"])
def test_what_is_wrong_is_refused_before_torch_is_imported(wrong, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    model = str(tmp_path / "model") if wrong == "model" else "reference"
    words = ["prune", model, "--remove", "2", "--output", str(tmp_path / "full")]
    script = (
        "import sys; from coterie.cli import main; code = main(sys.argv[1:]);"
        "print(code, *[m for m in ('torch', 'transformers', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True)
    assert done.stdout.strip() == "2"
    expected = "has no config.json" if wrong == "model" else "is not empty"
    assert expected in done.stderr
