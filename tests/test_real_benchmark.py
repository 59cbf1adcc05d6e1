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
