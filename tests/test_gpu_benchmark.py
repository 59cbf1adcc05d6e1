"""The script that measures a GPU runs to its end where there is none."""

import json
import runpy
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_the_cases_run_tiny_and_are_not_run_twice(tmp_path, monkeypatch, capsys):
    output = tmp_path / "gpu.jsonl"
    arguments = ["gpu.py", "--cases", "3B", "--device", "cpu", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    runpy.run_path(str(BENCHMARKS / "gpu.py"), run_name="__main__")
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert not [row for row in rows if "error" in row]
    steps = {row["step"] for row in rows if row["case"] == "3B"}
    assert {"rivals", "as before", "fused", "fused, profile", "fused, parts"} <= steps
    for row in rows:
        if row["step"] == "fused":
            assert row["used"] == "ahead, one-pass, fused" and row["largest_difference"] < 1e-3
    runpy.run_path(str(BENCHMARKS / "gpu.py"), run_name="__main__")
    assert len(output.read_text().splitlines()) == len(rows)
    assert "Traceback" not in capsys.readouterr().err
