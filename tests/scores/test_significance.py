"""Two models on the same items: McNemar, a paired bootstrap, and no worse than a margin."""

import json

import numpy as np
import pytest

from coterie.cli import main
from coterie.scores.harness_logs import read_logs
from coterie.scores.significance import bootstrap_means, holm, paired_test, score_bound


def test_mcnemar_counts_only_the_items_that_part_them():
    first = np.array([1.0] * 90 + [0.0] * 10)
    second = np.array([0.0] * 10 + [1.0] * 80 + [0.0] * 9 + [1.0])
    found = paired_test(first, second, rng=np.random.default_rng(0))
    assert (found.only_first, found.only_second, found.items) == (10, 1, 100)
    # Of 11 coins at most one shows the other side, on either end: 2 (1 + 11) / 2^11.
    assert found.p == pytest.approx(24 / 2048)
    assert found.difference == pytest.approx(-0.09)
    assert found.low < found.difference < found.high < 0
    assert not found.not_inferior(0.01) and found.not_inferior(0.2)
    same = paired_test(first, first, rng=np.random.default_rng(0))
    assert same.p == 1 and same.low == same.high == 0
    # That n items agree does not show that all do: three of n may differ, and no one would know.
    assert same.bound == pytest.approx(-2.7055 / (same.items + 2.7055), rel=1e-3)


def test_a_score_bound_covers_as_it_says(rng):
    for items, gains, losses in [(50, 0.05, 0.08), (200, 0.02, 0.03)]:
        drawn = rng.multinomial(items, [gains, losses, 1 - gains - losses], size=400)
        covered = [score_bound(g, lost, items) <= gains - losses for g, lost, _ in drawn]
        assert 0.91 < np.mean(covered) < 0.99
    assert score_bound(0, 20, 20) == -1 and score_bound(20, 0, 20) < 1


def test_the_bootstrap_spreads_as_the_mean_does(rng):
    values = rng.normal(size=400)
    means = bootstrap_means(values, rng)
    assert means.mean() == pytest.approx(values.mean(), abs=0.003)
    assert means.std() == pytest.approx(values.std() / 20, rel=0.05)
    graded = paired_test(values, values + 0.1, rng=rng)
    assert graded.p is None and graded.low == pytest.approx(0.1) == graded.high


def test_holm_is_valid_for_all_together():
    assert holm([0.04, 0.01, None, 0.03]) == [0.06, 0.03, None, 0.06]
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def logged(folder, rows, task="piqa", at="2026-11-28T10-00-00.123456"):
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        json.dumps(
            {
                # lm_eval writes what a page held as it is, and these end a line for Python.
                "doc": {"text": "one\u2028two\x85three"},
                "doc_id": i,
                "doc_hash": f"h{i}",
                "filter": "none",
                "acc": acc,
                "acc_norm": acc,
            },
            ensure_ascii=False,
        )
        for i, acc in enumerate(rows)
    ]
    (folder / f"samples_{task}_{at}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def test_logs_of_the_harness_are_compared_without_a_model(tmp_path, capsys):
    one = logged(tmp_path / "full" / "model", [1, 1, 1, 0, 1, 1, 0, 1] * 10)
    logged(tmp_path / "full" / "model", [0] * 80, at="2026-11-27T10-00-00.1")  # older: not read
    logged(one, [1, 0], task="boolq")
    two = logged(tmp_path / "cut", [1, 0, 1, 0, 0, 1, 0, 1] * 10)
    logged(two, [1], task="boolq")
    asked = ["evaluate", "--logs", str(tmp_path / "full"), str(two)]
    assert main([*asked, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (row,) = found["significance"]["rows"]
    assert (row["first"], row["second"], row["only_first"], row["only_second"]) == (
        "full", "cut", 20, 0,
    )  # fmt: skip
    assert row["p"] == pytest.approx(2 / 2**20) and not row["not_inferior"]
    assert found["left_out"] == ["boolq"] and "h0" in read_logs(two)["piqa"].items
    assert str(tmp_path) not in json.dumps(found)
    assert main([*asked, "--margin", "50%"]) == 0
    told = capsys.readouterr().out
    assert "-25.0" in told and "yes" in told and "1 comparisons" in told


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ([], "two folders or more"),
        (["nowhere"], "is not there"),
        (["empty"], "no samples_TASK_TIME"),
        (["other"], "no task in common"),
        (["broken"], "line 1 is not JSON"),
        (["bare"], "no score per item"),
        (["strange"], "has no doc_id"),
        (["other", "--tasks", "piqa"], "scores no model"),
    ],
)
def test_logs_that_cannot_be_compared_are_one_line(tmp_path, monkeypatch, capsys, more, said):
    monkeypatch.chdir(tmp_path)
    logged(tmp_path / "full", [1, 0])
    logged(tmp_path / "other", [1, 0], task="boolq")
    (tmp_path / "empty").mkdir()
    for name, line in (("broken", "{"), ("bare", '{"doc_id": 0}'), ("strange", "{}")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "samples_piqa_2026-11-28T10-00-00.1.jsonl").write_text(line)
    before = sorted(tmp_path.rglob("*"))
    assert main(["evaluate", "--logs", "full", *more]) == 2
    told = capsys.readouterr()
    lines = [line for line in told.err.strip().splitlines() if line.startswith("coterie")]
    assert len(lines) == 1 and said in lines[0]
    assert sorted(tmp_path.rglob("*")) == before
