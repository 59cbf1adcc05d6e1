"""Tasks as games: a coalition answers as the model cut to it, and mixes are what they say."""

import json

import numpy as np
import pytest
import torch
from tests.miniatures import MINIATURES
from tests.tiny import save_llama, save_text
from transformers import AutoModelForCausalLM, AutoTokenizer

pytest.importorskip("lm_eval", reason="tasks need lm-evaluation-harness: the extra `eval`")

from coterie.cli import main
from coterie.game.coalitions import Observations, observe_all
from coterie.models.cutting.in_memory import cut_model
from coterie.models.loaded.routing import routed
from coterie.models.loaded.stack import find_stack
from coterie.scores.errors import TaskError
from coterie.scores.mixed_game import MixedGame, Scaled, WeightedUtility
from coterie.scores.task_definitions import load_tasks
from coterie.scores.task_game import TaskGame
from coterie.scores.tasks import TaskSettings, score_tasks

ROWS = [
    {"query": f"badabo {i} is", "choices": ["bada", "fefi gogu", "gogu"], "gold": i % 3}
    for i in range(7)
]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    save_llama(home / "model", n_layers=5, dtype=torch.float32)
    save_text(home / "text.txt")
    for name, rows in (("sums", ROWS), ("backwards", ROWS[::-1])):
        (home / f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return home


@pytest.fixture
def parts(home):
    model = AutoModelForCausalLM.from_pretrained(home / "model", dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(home / "model"), find_stack(model)


def game_of(home, parts, limit=7):
    task = load_tasks(["sums"], home)["sums"]
    model, tokenizer, stack = parts
    return TaskGame("sums", task, model, tokenizer, stack, settings=TaskSettings(limit=limit))


def test_a_coalition_answers_as_the_model_cut_to_it(home, parts):
    model, tokenizer, _ = parts
    keep = np.array([[True] * 5, [True, False, True, True, False]])
    game = game_of(home, parts)
    seen = observe_all(game, keep)
    assert seen.nll.shape == (2, 21) and model.config.use_cache
    margins, hits = game.scores(seen, "margin"), game.scores(seen, "acc")
    (whole,) = score_tasks(load_tasks(["sums"], home), model, tokenizer)
    smaller = cut_model(model, [0, 2, 3])
    (cut,) = score_tasks(load_tasks(["sums"], home), smaller, tokenizer)
    for row, scores in enumerate((whole, cut)):
        np.testing.assert_allclose(margins[row], scores.scores["margin"], atol=1e-4)
        np.testing.assert_array_equal(hits[row], scores.scores["acc"])


@pytest.mark.parametrize("name", MINIATURES)
def test_every_task_of_the_paper_is_a_game_by_its_own_name(name, parts, tmp_path):
    model, tokenizer, stack = parts
    rows = "\n".join(json.dumps(row) for row in MINIATURES[name][:3])
    (tmp_path / f"{name}.jsonl").write_text(rows)
    task = load_tasks([name], tmp_path)[name]
    game = TaskGame(name, task, model, tokenizer, stack, settings=TaskSettings(limit=3))
    found = game.scores(observe_all(game, np.ones((1, 5), dtype=bool)), "margin")
    (scores,) = score_tasks({name: task}, model, tokenizer)
    np.testing.assert_allclose(found[0], scores.scores["margin"], atol=1e-4)


def test_any_sequences_may_be_asked_alone(home, parts):
    game = game_of(home, parts, limit=3)
    keep = np.array([[True, True, False, True, True]])
    whole = observe_all(game, keep).nll
    some = observe_all(game, keep, np.array([4, 1])).nll
    np.testing.assert_allclose(some, whole[:, [4, 1]], atol=1e-4)


def test_an_answer_without_a_likelihood_is_wrong_and_not_dropped(home, parts):
    game = game_of(home, parts, limit=2)
    nll = np.full((1, 6), np.nan)
    seen = Observations(nll, nll, nll)
    assert (game.scores(seen, "margin") == -2 * np.log(game.vocabulary)).all()
    assert (game.scores(seen, "acc") == 0).all()


class Sums:
    """Each unit's score is a weighted sum over the players."""

    def __init__(self, weights):
        self.weights = weights
        self.n_players, self.n_sequences = weights.shape

    def observe(self, coalitions, sequences):
        from coterie.game.coalitions import Block

        table = (coalitions @ self.weights)[:, sequences]
        rows = np.arange(len(coalitions)), np.arange(len(sequences))
        yield Block(*rows, Observations(table, table, table))


def mix_of(rng, weights=(0.75, 0.25), sizes=(4, 9)):
    games = [Sums(rng.random((5, size)) * 10**place) for place, size in enumerate(sizes)]
    parts = [
        WeightedUtility(
            str(i), weight, game, lambda seen: seen.nll, np.arange(game.n_sequences), "score"
        )
        for i, (game, weight) in enumerate(zip(games, weights, strict=True))
    ]
    return games, MixedGame([Scaled.of(part, np.arange(5)) for part in parts])


def test_a_mix_is_the_weighted_sum_in_units_of_one_average_player(rng):
    games, mix = mix_of(rng)
    coalitions = rng.random((8, 5)) < 0.6
    found = observe_all(mix, coalitions).nll.mean(axis=1)
    expected = np.zeros(8)
    for game, weight in zip(games, (0.75, 0.25), strict=True):
        effects = game.weights.mean(axis=1)
        expected += weight * (~coalitions @ effects) / effects.mean()
    np.testing.assert_allclose(found, expected)
    np.testing.assert_allclose(observe_all(mix, np.ones((1, 5), dtype=bool)).nll, 0, atol=1e-12)
    singles = ~np.eye(5, dtype=bool)
    np.testing.assert_allclose(observe_all(mix, singles).nll.mean(), 1)


def test_units_of_two_parts_never_share_a_cluster_and_may_be_asked_alone(rng):
    _, mix = mix_of(rng)
    assert len(set(mix.clusters)) == mix.n_sequences == 13
    coalitions = rng.random((3, 5)) < 0.6
    some = observe_all(mix, coalitions, np.array([11, 2])).nll
    np.testing.assert_allclose(some, observe_all(mix, coalitions).nll[:, [11, 2]])


def test_what_no_single_player_changes_cannot_be_weighed(rng):
    game = Sums(np.zeros((5, 3)))
    part = WeightedUtility("flat", 1.0, game, lambda seen: seen.nll, np.arange(3), "score")
    with pytest.raises(TaskError, match=r"'flat' .* is the same whichever single layer"):
        Scaled.of(part, np.arange(5))


def run(home, *more):
    texts = ["--calibration", str(home / "text.txt"), "--store", str(home / "s.sqlite")]
    quick = ["--length", "16", "--sequences", "4", "--budget", "24", "--dtype", "float32"]
    tasks = ["--tasks-dir", str(home), "--task-items", "3"]
    return main(["values", str(home / "model"), *texts, *quick, *tasks, *more])


def test_values_by_utility_tell_the_mix_and_every_part(home, capsys, monkeypatch):
    spec = "sums=0.5,backwards=0.25,kl=0.25"
    assert run(home, "--utility", spec, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [part["name"] for part in found["parts"]] == ["sums", "backwards", "kl"]
    assert found["record"]["search"]["utility"] == spec
    for part in found["parts"]:
        values = [layer["value"] for layer in part["contributions"]["layers"]]
        # One average layer is the unit, so contributions are of that order, not flat.
        assert part["scale"] > 0 and 0.1 < np.abs(values).max() < 10
    asked = []
    monkeypatch.setattr(TaskGame, "observe", lambda self, *_: asked.append(self) or iter(()))
    assert run(home, "--utility", spec, "--json") == 0  # the store answers
    again = json.loads(capsys.readouterr().out)
    assert not asked
    spent = [one["record"]["budget"] for one in (found, again)]
    assert [one["known"] for one in spent] == [0, spent[0]["distinct"]]
    mixes = [one["record"]["contributions"]["layers"] for one in (found, again)]
    assert mixes[0] == mixes[1]


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ("sums,kl", "--utility 'sums' cannot be read: write NAME=WEIGHT"),
        ("sums=-1", "cannot be read"),
        ("sums=0.5,sums=0.5", "names sums twice"),
        ("ppl-ratio", "ppl-ratio is no mean over texts"),
        ("sums:f1", "cannot be read"),
    ],
)
def test_a_mix_that_cannot_be_read_is_one_line(home, capsys, spec, complaint):
    assert run(home, "--utility", spec) == 2
    assert complaint in capsys.readouterr().err


def test_what_a_mix_does_not_serve_is_refused(home, capsys):
    assert run(home, "--utility", "sums", "--front") == 2
    assert "--utility estimates contributions through a surrogate" in capsys.readouterr().err


def test_routing_leaves_the_model_as_it_was(home, parts):
    model, _, stack = parts
    tokens = torch.arange(8)[None]
    before = model(tokens).logits
    observe_all(game_of(home, parts, limit=2), np.array([[True, False, True, True, True]]))
    assert torch.equal(before, model(tokens).logits)
    with routed(model, stack, [True] * 5):
        assert torch.equal(before, model(tokens, use_cache=False).logits)


WORKED = [
    {"question": f"What is {i} and {i + 1}?", "reasoning": f"{i} and {i + 1} make it.", "answer": i}
    for i in range(8)
]


def test_worked_answers_are_worth_their_likelihood_and_decided_on_items_that_chose_nothing(
    home, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    rows = "\n".join(json.dumps(row) for row in WORKED)
    (tmp_path / "sums.jsonl").write_text(rows)
    asked = ["prune", str(home / "model"), "--calibration", str(home / "text.txt")]
    asked += ["--remove", "1", "--method", "one-shot", "--sequences", "2", "--length", "16"]
    asked += ["--utility", "sums=0.5,kl=0.5", "--tasks-dir", "."]
    asked += ["--task-items", "4", "--store", "s.sqlite", "--output", "out"]
    assert main([*asked, "--json"]) == 0
    told = capsys.readouterr()
    record = json.loads(told.out)
    sums = record["utility"]["parts"][0]
    assert sums["measure"] == "log-likelihood of the worked answer, nats" and sums["full"] < 0
    assert sums["units"] == 4 and record["choice"]["decided_apart"]
    assert record["choice"]["comparisons"] >= 1
    assert "4 items of sums choose, and below 500" in told.err
    other = [*asked[:-1], "other", "--utility", "sums:acc"]
    assert main(other) == 2
    assert "would take decoding" in capsys.readouterr().err and not (tmp_path / "other").exists()
