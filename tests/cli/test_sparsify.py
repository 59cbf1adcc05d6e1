"""The command `sparsify`: it teaches, reports in both forms, and refuses in one line."""

import json

import pytest
from tests.tiny import save_llama, save_text

from coterie.cli import main

OWL = ("--allocation", "owl")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    save_llama(home / "model", n_layers=3)
    save_text(home / "text.txt")
    return home


def arguments(home, output, *more):
    texts = ["--calibration", str(home / "text.txt"), "--sequences", "6", "--length", "16"]
    where = ["--output", str(home / output), "--store", str(home / "store.sqlite")]
    return ["sparsify", str(home / "model"), *texts, *where, *more]


def test_help_says_who_profits(capsys):
    assert main(["sparsify", "--help"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "save NO time on ordinary hardware" in told
    assert "sparse tensor cores" in told and "DeepSparse" not in told


def test_both_reports_hold_the_verdict(home, capsys):
    assert main(arguments(home, "out", "--sparsity", "0.5", *OWL, "--json")) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["sparsity"]["realised"] == pytest.approx(0.5, abs=0.01)
    assert str(home) not in json.dumps(record)
    assert main(arguments(home, "out", "--sparsity", "0.5", *OWL)) == 0
    told = capsys.readouterr().out
    assert "paired" in told and "realised" in told and "reloaded" in told


@pytest.mark.parametrize(
    "more",
    [
        ["--sparsity", "1.2"],
        ["--sparsity", "0.9", "--most", "0.8"],
        ["--pattern", "2:5", "--allocation", "uniform"],
        ["--sparsity", "0.5", "--allocation", "x"],
        [],
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(home, capsys, more):
    assert main(arguments(home, "wrong", *more)) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert told[-1].startswith("coterie: ") and not (home / "wrong").exists()


def test_help_speaks_of_sparsify_and_of_what_is_kept(capsys):
    assert main(["sparsify", "--help"]) == 0
    told = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "goes on with the coalitions observed so far" in told
    assert "--pruning-sequences" in told and "pruned all the same" in told
    for method_of_prune in ("published design", "paper's method", "finalists"):
        assert method_of_prune not in told


def test_pruning_sequences_are_passed_on(home, capsys):
    more = ("--sparsity", "0.5", "--pruning-sequences", "20", "--json", *OWL)
    assert main(arguments(home, "few", *more, "--dry-run")) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["calibration"]["sequences"], plan["pruning"]["sequences"]) == (6, 20)
    assert main(arguments(home, "few", *more)) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["sparsity"]["judged_on"] == [20 * 16] * 2
