"""A verdict in words, by stated thresholds; a limit for scripts; what to type next."""

from dataclasses import replace
from itertools import pairwise
from math import exp, log
from pathlib import Path

import pytest

from coterie.cli import main
from coterie.errors import UserError
from coterie.report.schema.verdict import DifferencePart, PerplexityPart, VerdictPart
from coterie.verbs.options.forms import FRACTION, QUANTITY
from coterie.verbs.prune.limit import too_much
from coterie.verbs.shared.grades import GRADES, graded


def verdict(rise, kl, top1, before=3.0):
    one, two = (PerplexityPart(x, exp(x), 0.1) for x in (before, before + rise))
    part = DifferencePart(nll=rise, error=0.01, documents=4)
    return VerdictPart(one, two, part, exp(rise), kl, top1, 0)


@pytest.mark.parametrize(
    ("part", "word"),
    [
        (verdict(0.05, 0.05, 0.9), "close"),
        (verdict(0.3, 0.3, 0.7), "damaged"),
        (verdict(0.05, 0.05, 0.46), "heavily damaged"),
        (verdict(0.05, 0.9, 0.9), "heavily damaged"),
        (verdict(0.05, None, None), "heavily damaged"),
        (verdict(log(1000) - 3.0, 5.0, 0.0), "broken"),
        (verdict(15.0, 9.0, 0.9), "broken"),
        (replace(verdict(0.05, 0.05, 0.9), not_finite=1), "broken"),
    ],
)
def test_a_verdict_has_the_worst_word_that_any_measure_gives(part, word):
    found = graded(part, vocabulary=1000)
    assert found.grade == word and found.sentence.lower().startswith(word)


def test_a_model_that_breaks_down_on_some_text_is_said_to_and_not_to_guess():
    sentence = graded(replace(verdict(0.05, 0.05, 0.9), not_finite=1), vocabulary=1000).sentence
    assert sentence.startswith("Broken: 1 of its held-out losses") and "guess" not in sentence


def test_grades_only_become_more_lenient():
    for better, worse in pairwise(GRADES):
        assert (better.ratio, better.kl, -better.top1) < (worse.ratio, worse.kl, -worse.top1)


def test_more_than_half_is_warned_of():
    assert too_much(8, 16, "layers") is None and "more than half" in too_much(9, 16, "layers")


def test_a_destroyed_model_is_no_success(tmp_path, capsys):
    asked = ["prune", "reference", "--method=one-shot", "--sequences=2", "--length=16"]
    kept = ["--store", str(tmp_path / "s.sqlite"), "--output", str(tmp_path / "out")]
    assert main([*asked, "--remove", "12", *kept, "--max-loss", "0.5"]) == 1
    told = capsys.readouterr()
    assert (Path(kept[-1]) / "model.safetensors").is_file()
    assert "--max-loss allows 0.5" in told.err and "more than half" in told.err
    first = told.out.strip().splitlines()[0]
    assert first.startswith(("Broken", "Heavily damaged"))
    assert (
        f"coterie heal {kept[-1]}" in told.out and first in (tmp_path / "out/README.md").read_text()
    )
    assert main([*asked, "--remove", "12", *kept, "--max-loss", "50"]) == 0


def test_amounts_are_read_as_people_write_them():
    assert QUANTITY.read("--target-bytes", "200M") == QUANTITY.read("--target-bytes", "2e8") == 2e8
    assert QUANTITY.read("--target-bytes", "200MB") == 2e8
    assert QUANTITY.read("--target-params", "75%") == 0.75 == FRACTION.read("--ratio", "75%")
    with pytest.raises(UserError, match="25%"):
        FRACTION.read("--ratio", "a quarter")


def test_equal_layers_share_a_line_and_the_embedding_has_its_share(capsys):
    assert main(["inspect", "reference"]) == 0
    out = capsys.readouterr().out
    assert "0-15  LlamaDecoderLayer" in out and "parameters each" in out
    assert "% of them are the embedding and the head" in out
