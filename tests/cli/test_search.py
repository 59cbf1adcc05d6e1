"""Searches from the command line: finalists, fronts, targets, estimators, stability."""

import json

import numpy as np
import pytest
from tests.tiny import N_LAYERS, save_llama, save_text

from coterie.cli import main
from coterie.verbs.shared import opened_model as opening

QUICK = ["--length", "16", "--sequences", "8", "--json"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a model, a text, and one store for all runs."""
    home = tmp_path_factory.mktemp("search")
    save_llama(home / "model")
    save_text(home / "text.txt")
    return home


def run(home, capsys, verb, *more, code=0):
    texts = ["--calibration", str(home / "text.txt"), "--store", str(home / "store.sqlite")]
    capsys.readouterr()
    assert main([verb, str(home / "model"), *QUICK, *texts, *more]) == code
    told = capsys.readouterr()
    return json.loads(told.out) if code == 0 else told.err.strip().splitlines()[-1]


def prune(home, capsys, output, *more, **how):
    return run(home, capsys, "prune", "--output", str(home / output), *more, **how)


def test_guided_is_the_default_and_loses_to_no_finalist_where_it_was_decided(home, capsys):
    record = prune(home, capsys, "out", "--remove", "2", "--repair", "none")
    choice = record["choice"]
    (here,) = choice["sizes"]
    assert record["search"]["method"] == "guided"
    assert here["removed"] == record["cut"]["removed"] and here["size"] == N_LAYERS - 2
    assert min(one["behind"] for one in here["finalists"]) == 0
    assert {one["method"] for one in here["finalists"]} >= {"guided", "greedy", "one-shot"}
    assert choice["second"]["sha256"] not in (
        record["calibration"]["sha256"], record["held_out"]["sha256"]
    )  # fmt: skip
    assert choice["sequences"] == 8 + choice["second"]["sequences"]
    assert record["budget"]["layer_tokens_asked"] > 0
    card = (home / "out" / "README.md").read_text()
    assert "## Finalists" in card and "cut the lowest" not in card


def test_a_repeated_search_observes_nothing_again_and_says_the_same(home, capsys):
    first = prune(home, capsys, "one", "--remove", "2")
    again = prune(home, capsys, "two", "--remove", "2")
    assert again["choice"] == first["choice"]
    assert again["contributions"] == first["contributions"]
    assert again["budget"]["layer_tokens_asked"] == first["budget"]["layer_tokens_asked"]
    assert again["budget"]["layer_tokens_executed"] == 0


@pytest.mark.parametrize("method", ["greedy", "one-shot", "contiguous", "evolve"])
def test_every_method_ends_in_a_checkpoint(home, capsys, method):
    record = prune(home, capsys, method, "--remove", "2", "--method", method)
    assert record["search"]["method"] == method and len(record["cut"]["removed"]) == 2
    assert (home / method / "config.json").exists()


def test_the_front_has_every_size_up_to_half(home, capsys):
    record = run(home, capsys, "values", "--front")
    assert [one["size"] for one in record["choice"]["sizes"]] == [5, 4, 3]
    assert "cut" not in record


def test_a_target_is_met_by_the_smallest_removal(home, capsys):
    record = prune(home, capsys, "target", "--target-params", "0.8")
    target, size = record["target"], record["size"]
    assert target["after"] == size["parameters_after"] <= 0.8 * size["parameters_before"]
    layer = (size["parameters_before"] - size["parameters_after"]) / len(record["cut"]["removed"])
    assert size["parameters_after"] + layer > target["most"]


def test_a_speedup_is_measured_once(home, capsys):
    first = prune(home, capsys, "fast", "--target-speedup", "1.2", "--method", "one-shot")
    again = prune(home, capsys, "fast2", "--target-speedup", "1.2", "--method", "one-shot")
    assert first["target"] == again["target"] and first["cut"] == again["cut"]
    assert first["target"]["after"] <= first["target"]["most"]


@pytest.mark.parametrize(
    "estimator", ["kernel", "permutation", "banzhaf", "window", "exact", "control"]
)
def test_estimators_speak_of_the_true_game(home, capsys, estimator):
    record = run(home, capsys, "values", "--estimator", estimator, "--budget", "160")
    found = record["contributions"]
    assert found["unit"] == "nats per token" and record["fidelity"] is None
    assert all(layer["error_texts"] > 0 for layer in found["layers"])
    if estimator == "exact":
        assert record["budget"]["distinct"] == 2**N_LAYERS
        kernel = run(home, capsys, "values", "--estimator", "kernel", "--budget", "160")
        values = [[one["value"] for one in r["contributions"]["layers"]] for r in (record, kernel)]
        assert np.sum(values[0]) == pytest.approx(np.sum(values[1]), abs=1e-9)


def test_interactions_and_surrogates(home, capsys):
    record = run(
        home, capsys, "values", "--interactions", "--surrogate", "pairwise", "--budget", "40"
    )
    assert record["search"]["surrogate"] == "pairwise ridge"
    assert len(record["interactions"]["pairs"]) == N_LAYERS * (N_LAYERS - 1) // 2


def test_stability_compares_seeds_and_texts_of_one_model_loaded_once(home, capsys, monkeypatch):
    loaded, load = [], opening.load_model
    monkeypatch.setattr(
        opening, "load_model", lambda *args, **options: loaded.append(1) or load(*args, **options)
    )
    more = ("--repeats", "2", "--remove", "2", "--method", "greedy", "--surrogate", "pairwise")
    seeds, texts = run(home, capsys, "values", *more)["stability"]["overlaps"]
    assert seeds["cuts"] == [1.0] and seeds["runs"] == texts["runs"] == 2
    assert len(texts["cuts"]) == 1 and 0 <= texts["cuts"][0] <= 1
    assert len(loaded) == 1


def test_a_dry_run_of_a_search_states_its_limits(home, capsys):
    plan = prune(home, capsys, "none", "--remove", "2", "--dry-run")["plan"]
    assert plan["at_most"] and not (home / "none").exists()
    assert plan["layer_tokens_asked"] > 0 and plan["memory_bytes"] > 0


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (["--target-params", "0.8", "--remove", "1"], "twice"),
        (["--target-params", "0.01"], "cannot be reached"),
        (["--target-bytes", "1e12"], "nothing to cut"),
        (["--target-speedup", "0.9"], "above 1"),
        (["--remove", "2", "--budget", "3"], "too small for --method guided"),
        (["--remove", "2", "--state-memory", "lots"], "500M or 8G"),
    ],
)
def test_what_cannot_be_searched_is_refused_in_one_line(home, capsys, more, complaint):
    assert complaint in prune(home, capsys, "refused", *more, code=2)
    assert not (home / "refused").exists()


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (["--front", "--remove", "2"], "every size at once"),
        (["--repeats", "3"], "say how much"),
        (["--estimator", "kernel", "--budget", "3"], "no standard error"),
        (["--estimator", "control", "--budget", "150"], "no standard error"),
        (["--estimator", "kernel", "--surrogate", "pairwise"], "goes with --estimator paper"),
    ],
)
def test_what_values_cannot_do_is_refused_in_one_line(home, capsys, more, complaint):
    assert complaint in run(home, capsys, "values", *more, code=2)
