"""Cut a tiny random model of every causal-LM type of the installed transformers, and prove it.

    python benchmarks/families.py                 all types, resuming; writes docs/families.md
    python benchmarks/families.py llama mamba2    these alone, printed
    python benchmarks/families.py --releases      in the oldest and the newest supported release

For every type, three seeded coalitions, each without at least one unlocked layer: the engine's
value and the logits must be those of the checkpoint that was cut, written and reloaded by plain
transformers, and its cached generation that without a cache, where the full model's own is.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import warnings
from dataclasses import asdict
from pathlib import Path

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import logging

from coterie.engine.model_game import ModelGame
from coterie.game.coalitions import Coalitions, observe_all
from coterie.models.loaded.stack import Stack
from coterie.testing.family_check import FamilyCheck, check_family
from coterie.testing.tiny import causal_types

PAGE = Path(__file__).parent.parent / "docs" / "families.md"
RELEASES = ("5.10.*", "5.*")
"""Oldest and newest supported release of transformers, as pip understands them."""

NOT_ALONE = {
    "gemma4_assistant": "drafts for another model, whose states it needs",
    "gemma4_unified_assistant": "drafts for another model, whose states it needs",
    "musicgen": "its config is that of a text-to-music pair; the decoder has no type of its own",
    "musicgen_melody": "its config is that of a text-to-music pair",
    "dots3_note": "its vision tower has a fixed depth; the text part is dots3_note_text",
    "gemma3n": "its vision tower needs timm; the text part is gemma3n_text",
}
"""Types of which no tiny language model can be built from their config alone."""


KNOWN_MISSES = {
    "blt": "its layers lie in five stacks, whose counts stand in five parts of its config",
    "hrm_text": "two stacks of layers run by turns, several times each",
}
"""Misses whose reason is easier told than read off the error."""


def engine(
    model: PreTrainedModel, stack: Stack, coalitions: Coalitions, tokens: Tensor
) -> tuple[str, NDArray[np.float64]]:
    """How the engine evaluates, and the mean negative log-likelihood of each coalition."""
    game = ModelGame(model, tokens.numpy(), stack=stack, kl=False)
    return game.mode, observe_all(game, coalitions).nll.mean(axis=1)


def survey(types: list[str], results: Path) -> list[dict[str, object]]:
    """Check every type that `results` has no line for yet; one line of JSON each."""
    known = {}
    if results.is_file():
        lines = results.read_text(encoding="utf-8").splitlines()
        known = {row["model_type"]: row for row in map(json.loads, lines)}
    with results.open("a", encoding="utf-8") as file:
        for number, model_type in enumerate(types, start=1):
            if model_type in known:
                continue
            with tempfile.TemporaryDirectory() as folder:
                found = check_family(model_type, Path(folder), engine=engine)
            print(f"{number}/{len(types)} {model_type}: {summary(found)}", flush=True)
            known[model_type] = json.loads(json.dumps(asdict(found)))
            file.write(json.dumps(known[model_type]) + "\n")
            file.flush()
    return [known[model_type] for model_type in types]


def summary(found: FamilyCheck) -> str:
    """One type in one line."""
    if not found.passed:
        return f"MISS: {found.failure}"
    return (
        f"ok in {found.seconds:.1f} s, engine within {found.engine_difference:.0e} ({found.mode})"
    )


def write_page(rows: list[dict[str, object]], page: Path) -> None:
    """Write the table of all types."""
    buildable = [row for row in rows if row["model_type"] not in NOT_ALONE]
    passed = [row for row in buildable if not row["failure"]]
    versions = f"transformers {transformers.__version__}, torch {torch.__version__}"
    lines = [
        "# Model families",
        "",
        f"Written by `python benchmarks/families.py` with {versions}, Python"
        f" {platform.python_version()}, {platform.machine()}, float32.",
        "",
        f"**{len(passed)} of {len(buildable)}** causal-LM types that can be built pass: three"
        " seeded coalitions each of a tiny random model, each cutting at least one unlocked layer."
        " *Engine* is the largest difference of the engine's value from that of the checkpoint,"
        " cut, written and reloaded by plain transformers (nats per token); *logits* the largest"
        " difference of a logit from the masked model's; *cache* whether greedy generation with"
        " the cache equals generation without (a dash: not even in the full model).",
        "",
        "| type | layers at | players | locked | evaluated | engine | logits | cache | seconds |",
        "|---|---|---|---|---|---|---|---|---|",
        *(_line(row) for row in passed),
        "",
        "## Misses",
        "",
        "| type | reason |",
        "|---|---|",
        *(f"| {row['model_type']} | {_reason(row)} |" for row in buildable if row["failure"]),
        "",
        "## Not models by themselves",
        "",
        "| type | reason |",
        "|---|---|",
        *(f"| {name} | {reason} |" for name, reason in NOT_ALONE.items()),
        "",
        "## Why layers are locked",
        "",
        *(f"- {reason}: {', '.join(types)}" for reason, types in _reasons(passed).items()),
    ]
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _line(row: dict) -> str:
    locked = ", ".join(str(player) for player, _ in row["locks"]) or "none"
    gap = max(found["max_logit_difference"] for found in row["verifications"])
    cache = {True: "yes", None: "–"}[row["verifications"][0]["generate_ok"]]
    mode = row["mode"].split(":")[0]
    return (
        f"| {row['model_type']} | `{row['path']}` | {row['n_players']} | {locked} | {mode}"
        f" | {row['engine_difference']:.0e} | {gap:.0e} | {cache} | {row['seconds']:.1f} |"
    )


def _reason(row: dict) -> str:
    if row["model_type"] in KNOWN_MISSES:
        return KNOWN_MISSES[row["model_type"]]
    reasons = sorted({reason for _, reason in row["locks"]})
    why = f" ({'; '.join(reasons)})" if "unlocked" in row["failure"] and reasons else ""
    return row["failure"].replace("|", "/")[:300] + why


def _reasons(rows: list[dict]) -> dict[str, list[str]]:
    reasons: dict[str, list[str]] = {}
    for row in rows:
        for reason in {reason for _, reason in row["locks"]}:
            reasons.setdefault(reason, []).append(row["model_type"])
    return reasons


def check_releases(types: list[str], folder: Path) -> None:
    """Run this script in an environment of the oldest and one of the newest supported release.

    Environments and results stay in ``folder``: a run that was stopped goes on where it was.
    """
    for release in RELEASES:
        python = _environment(release, folder / f"transformers-{release.replace('*', 'x')}")
        ask = [str(python), "-c", "import transformers; print(transformers.__version__)"]
        version = subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip()
        print(f"transformers {version}", flush=True)
        results, page = folder / f"families-{version}.jsonl", folder / f"families-{version}.md"
        files = ["--results", str(results), *([] if types else ["--page", str(page)])]
        subprocess.run([str(python), str(Path(__file__).resolve()), *files, *types], check=True)


def _environment(release: str, home: Path) -> Path:
    """The Python of an environment with that release and this checkout; made if it is not there."""
    python = home / "bin" / "python"
    ready = home / "ready"
    if not ready.is_file():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet"]
        # Torch alone and first, without the local part of its version: another build would do.
        subprocess.run([*pip, f"torch=={torch.__version__.split('+')[0]}"], check=True)
        root = str(Path(__file__).resolve().parent.parent)
        subprocess.run([*pip, "--editable", root, f"transformers=={release}"], check=True)
        ready.touch()
    return python


def main() -> None:
    """Parse, survey, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("types", nargs="*", help="model types; all if none is given")
    parser.add_argument("--results", type=Path, default=Path("families.jsonl"))
    parser.add_argument("--page", type=Path, help="where to write the table")
    parser.add_argument("--releases", action="store_true")
    parser.add_argument(
        "--environments",
        type=Path,
        default=Path.home() / ".cache" / "coterie" / "releases",
        help="where --releases keeps its environments and results",
    )
    asked = parser.parse_args()
    if asked.releases:
        check_releases(asked.types, asked.environments)
        return
    logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    types = asked.types or causal_types()
    rows = survey(types, asked.results)
    passed = sum(not row["failure"] for row in rows)
    print(f"{passed} of {len(rows)} types pass, {len(rows) - passed} do not")
    page = asked.page or (None if asked.types else PAGE)
    if page is not None:
        write_page(rows, page)


if __name__ == "__main__":
    main()
