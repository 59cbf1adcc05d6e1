"""The script that measures published models runs to its end on a tiny one."""

import runpy
import sys
from pathlib import Path

from tests.tiny import save_llama, save_text, words

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_methods_play_and_are_judged_on_every_text(tmp_path, monkeypatch, capsys):
    save_llama(tmp_path / "work" / "smollm2")  # made already, so nothing is fetched
    # Long enough for what is calibrated, decided and fitted on; each document is another.
    for number, name in enumerate(("one", "two")):
        documents = [f"{name} {place}. {text * 5}" for place, text in enumerate(words()[number::2])]
        save_text(tmp_path / f"{name}.txt", documents)
    asked = ["real.py", "--work", str(tmp_path / "work"), "--models", "smollm2", "--sizes", "2"]
    asked += ["--texts", f"one={tmp_path / 'one.txt'}", "--texts", f"two={tmp_path / 'two.txt'}"]
    asked += ["--methods", "shortgpt", "--repair", "both"]
    monkeypatch.setattr(sys, "argv", asked)
    runpy.run_path(str(BENCHMARKS / "real.py"), run_name="__main__")
    printed = capsys.readouterr().out
    for pair in ("one, judged on one", "one, judged on two", "two, judged on one"):
        assert f"# smollm2, chosen on {pair}" in printed
    assert printed.count("ShortGPT, repaired") >= 4
    assert (tmp_path / "work" / "smollm2-one-judged-two" / "comparison.json").is_file()


def test_what_comes_after_the_cut_is_made_and_judged_once(tmp_path, monkeypatch, capsys):
    model = save_llama(tmp_path / "model")
    for number, name in enumerate(("fit", "one", "two")):
        documents = [f"{name} {place}. {text * 3}" for place, text in enumerate(words()[number::3])]
        save_text(tmp_path / f"{name}.txt", documents)
    asked = ["after_the_cut.py", "--model", str(model), "--work", str(tmp_path / "work"), "--cpu"]
    asked += ["--fit", str(tmp_path / "fit.txt"), "--cut", "middle=2,3", "--repair", "scalar"]
    asked += ["--text", f"one={tmp_path / 'one.txt'}", "--text", f"two={tmp_path / 'two.txt'}"]
    asked += ["--tokens", "512", "--mode", "gaps", "--scheme", "none", "--length", "32"]
    monkeypatch.setattr(sys, "argv", asked)
    script = str(BENCHMARKS / "after_the_cut.py")
    runpy.run_path(script, run_name="__main__")
    printed = capsys.readouterr().out
    for row in ("dense", "middle", "middle-repaired", "middle-repaired-healed-512"):
        assert f"| {row} |" in printed
    assert "of the loss of middle on one.txt" in printed and "judging middle" in printed
    runpy.run_path(script, run_name="__main__")
    again = capsys.readouterr().out
    assert "making" not in again and "judging" not in again
    assert printed.split("threads,")[1] == again.split("threads,")[1]
