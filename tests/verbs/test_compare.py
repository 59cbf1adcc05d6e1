"""Methods under one evaluator: paired, charged, resumed, and gaps that say why."""

import json
import math
import sqlite3
from contextlib import contextmanager

import numpy as np
import pytest
from tests.tiny import save_llama, save_text

from coterie.engine.cost import plan
from coterie.errors import UserError
from coterie.report.schema.compare import Comparison
from coterie.report.terminal.compare import as_csv, markdown, verdict
from coterie.verbs.compare import memory
from coterie.verbs.compare import playing as module
from coterie.verbs.compare.request import CompareRequest
from coterie.verbs.compare.run import compare
from coterie.verbs.shared.progress import NoProgress

METHODS = ("greedy", "shortgpt", "sleb", "evolve")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("compare")
    save_llama(home / "model")
    save_text(home / "text.txt")
    return home


def asked(home, **changes):
    texts = {"calibration": str(home / "text.txt"), "length": 16, "sequences": 4, "budget": 30}
    settings = {"removals": (1, 2, 5), "methods": METHODS, "seeds": 2, "rounds": 0}
    return CompareRequest(str(home / "model"), **(texts | settings | changes))


@pytest.fixture(scope="module")
def table(home):
    return compare(asked(home), output=home / "out", store=home / "store.sqlite").as_json()


def row(table, method, removed):
    (found,) = (r for r in table["rows"] if (r["method"], r["removed"]) == (method, removed))
    return found


def test_every_method_has_a_row_at_every_size(table):
    assert len(table["rows"]) == 3 * len(METHODS)
    assert row(table, "evolve", 2)["seeds"] == 2 and row(table, "sleb", 2)["seeds"] == 1


def test_a_method_that_does_not_reach_leaves_a_gap_that_says_why(table):
    gap = row(table, "sleb", 5)  # it keeps the first and the last of six
    assert gap["gap"] and gap["held_out"] == []
    assert gap["gap"].replace("|", "/") in markdown(Comparison.from_json(table))


def test_one_row_per_size_is_best_and_nobody_is_better(table):
    for removed in (1, 2):
        parts = [r["held_out"][0] for r in table["rows"] if r["removed"] == removed]
        means = [part["nll"]["mean"] for part in parts]
        for part in parts:
            assert part["best"] == (part["nll"]["mean"] == min(means))
            gap = part["nll"]["mean"] - min(means)
            assert part["against_best"]["mean"] == pytest.approx(gap, abs=1e-12)
            assert part["perplexity"]["mean"] == pytest.approx(math.exp(part["nll"]["mean"]))
            against_full = part["nll"]["mean"] - table["full"]["held_out"][0]["nll"]["mean"]
            assert part["against_full"]["mean"] == pytest.approx(against_full, abs=1e-12)
    assert "is best" in verdict(Comparison.from_json(table))


def test_greedy_cannot_lose_to_others_of_its_size_one_on_the_texts_that_choose(table):
    losses = {m: row(table, m, 1)["calibration"] for m in METHODS if m != "evolve"}
    assert losses["greedy"] <= min(losses.values()) + 0.05  # it decides on a second set as well


def test_the_same_answer_is_judged_the_same(table):
    cells = {}
    for cell in table["cells"]:
        key = json.dumps(cell["kept"])
        cells.setdefault(key, set()).add(cell["held_out"]["16"])
    assert all(len(losses) == 1 for losses in cells.values())


def test_the_files_hold_the_same_table(home, table):
    written = json.loads((home / "out" / "comparison.json").read_text())
    assert written == json.loads(json.dumps(table))
    assert (home / "out" / "comparison.csv").read_text() == as_csv(Comparison.from_json(table))
    assert (home / "out" / "comparison.svg").stat().st_size > 0
    assert len(as_csv(Comparison.from_json(table)).splitlines()) == 2 + len(table["rows"])


def test_the_finished_run_is_reported_again_and_another_is_not_replaced(home, table):
    again = compare(asked(home), output=home / "out", store=home / "none.sqlite")
    assert again.as_json() == table
    assert not (home / "none.sqlite").exists()
    with pytest.raises(UserError, match="another comparison"):
        compare(asked(home, seeds=1), output=home / "out", store=home / "store.sqlite")


class Stopped(Exception):
    pass


class StopsAt(NoProgress):
    """Pulls the plug when a method begins."""

    def __init__(self, title):
        self.title = title

    def say(self, line):
        if line.startswith(self.title):
            raise Stopped


def test_stopped_and_run_again_it_gives_the_same_table(home, table, monkeypatch):
    store = home / "again.sqlite"
    with pytest.raises(Stopped):
        compare(asked(home), store=store, progress=StopsAt("SLEB"))
    played = []
    real = module.play

    def play(*given):
        played.append(given[1])
        return real(*given)

    monkeypatch.setattr(module, "play", play)
    again = compare(asked(home), store=store)
    assert "greedy" not in played and "shortgpt" not in played  # finished before the stop
    assert without_times(again.as_json()) == without_times(table)
    played.clear()
    assert compare(asked(home), store=store) == again and not played
    with sqlite3.connect(store) as db:
        assert db.execute("SELECT COUNT(*) FROM note WHERE name LIKE 'judged%'").fetchone()[0]


def test_what_the_store_answers_takes_the_memory_that_it_takes_alone(home, monkeypatch):
    @contextmanager
    def measured(device):
        yield lambda: 0  # of this run; what is known runs no layer

    monkeypatch.setattr(memory, "peak_memory", measured)
    wanted = asked(home, removals=(1,), methods=("greedy", "one-shot"))
    _, one_shot = compare(wanted, store=home / "known.sqlite").rows
    absences = plan(~np.eye(6, dtype=bool), 4, 16)
    hidden = json.loads((home / "model" / "config.json").read_text())["hidden_size"]
    assert one_shot.cost.peak_bytes == absences.state_bytes(hidden, 4)


def without_times(table):
    plain = json.loads(json.dumps(table))
    for one in plain["rows"]:
        for name in ("seconds", "peak_bytes"):
            if one["cost"]:
                one["cost"].pop(name)
    return plain


def test_lengths_are_columns_of_their_own_and_refused_above_the_context(home):
    wanted = asked(home, removals=(1,), methods=("shortgpt",), lengths=(16, 32))
    found = compare(wanted, store=home / "store.sqlite").as_json()
    assert [part["length"] for part in found["rows"][0]["held_out"]] == [16, 32]
    with pytest.raises(UserError, match="context"):
        compare(asked(home, lengths=(2048,)), store=home / "store.sqlite")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"methods": ("luck",)}, "luck is unknown"),
        ({"removals": ()}, "--remove"),
        ({"removals": (2, 2)}, "twice"),
        ({"seeds": 0}, "at least 1"),
        ({"removals": (6,)}, "at most"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(home, changes, told):
    with pytest.raises(UserError, match=told):
        compare(asked(home, **changes), store=home / "refused.sqlite")


def test_means_over_draws_are_means_of_losses(home):
    wanted = asked(home, removals=(2,), methods=("random",), seeds=1)
    found = compare(wanted, store=home / "store.sqlite").as_json()
    (cell,), (one,) = found["cells"], found["rows"]
    assert len(cell["kept"]) > 1 and all(len(kept) == 4 for kept in cell["kept"])
    assert np.isclose(cell["held_out"]["16"], one["held_out"][0]["nll"]["mean"])


def test_the_papers_method_chooses_on_its_ten_sequences_and_is_judged_as_the_others(home):
    wanted = asked(home, removals=(2,), methods=("guided", "paper"), seeds=1, sequences=None)
    found = compare(wanted, store=home / "ten.sqlite").as_json()
    rows = {one["method"]: one for one in found["rows"]}
    assert rows["paper"]["gap"] is None and rows["paper"]["sequences"] == 10
    assert found["calibration"]["sequences"] == 32 < rows["guided"]["sequences"]
    assert sum(one["held_out"][0]["best"] for one in found["rows"]) >= 1


def test_answers_of_whole_layers_are_judged_repaired_too(home, tmp_path):
    names = ("guided", "sleb", "blockpruner")
    request = asked(home, removals=(2,), methods=names, repair="both", seeds=1)
    store = tmp_path / "store.sqlite"
    found = compare(request, output=tmp_path / "out", store=store)
    assert "--repair both" in found.command
    rows = {one.method: one for one in found.rows}
    assert list(rows) == [each for name in names for each in (name, f"{name}+repair")]
    assert rows["sleb+repair"].title == f"{rows['sleb'].title}, repaired"
    assert rows["sleb+repair"].layers == rows["sleb"].layers
    assert rows["sleb+repair"].cost.seconds > rows["sleb"].cost.seconds
    assert rows["guided+repair"].cost.layer_tokens_executed > 0
    assert rows["blockpruner+repair"].gap == "only one cut of whole layers is repaired"
    assert any("repair both, " in one or "repair none, " in one for one in found.remarks)
    again = compare(request, store=store)
    assert [one.as_json() for one in again.rows] == [one.as_json() for one in found.rows]


def test_a_repair_that_is_no_repair_is_refused(home):
    with pytest.raises(UserError, match="'sideways' is unknown"):
        asked(home, repair="sideways").check()


def test_a_repaired_answer_is_of_its_own_texts_and_limits(home, tmp_path):
    store = tmp_path / "store.sqlite"
    contest = {"removals": (2,), "methods": ("guided",), "repair": "both", "seeds": 1}
    for changes in ({}, {}, {"budget": 25}, {"sequences": 3}):
        compare(asked(home, **contest | changes), store=store)
    with sqlite3.connect(store) as db:
        (notes,) = db.execute("SELECT COUNT(*) FROM note WHERE name LIKE 'repaired %'").fetchone()
    assert notes == 3  # the second run asked what the first had
