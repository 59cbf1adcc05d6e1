"""Mutated files, each read by a command: it is read, or refused in one line, within bounds."""

import random
import tempfile
import warnings
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from .acts import no_network
from .commands import Ended, run, run_apart
from .home import GAME, Home, leftovers
from .mutations import TEXTS, Mutation, mutations
from .trial import Trial

BATCH = 50
"""Mutations of a trial."""

_OURS = ("out", ".out.", "store.sqlite", "scratch", "home")
"""How the names begin that a command may make where it runs."""


def fuzz(home: Home, number: int) -> Trial:
    """A batch of mutations, every one of them tried."""
    faults: list[str] = []
    ends: Counter[str] = Counter()
    examples = 0

    @seed(number)
    @settings(
        max_examples=BATCH,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(mutations(home.model))
    def one(mutation: Mutation) -> None:
        nonlocal examples
        examples += 1
        ended, found = tried(home, mutation, f"{number} {examples}")
        ends[f"exit {ended.code}"] += 1
        for fault in found:
            faults.append(f"{mutation!r}: {fault} | {ended.said.strip()[-200:]}")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        one()
    return {"what": "a batch of mutations", "exit": "any", "faults": faults,
            "examples": examples, "ends": dict(ends)}  # fmt: skip


def smallest(home: Home, number: int) -> None:
    """The same batch, stopped at its first fault, which hypothesis makes as small as it can.

    Raises:
        AssertionError: with the smallest mutation that fails.
    """

    @seed(number)
    @settings(
        max_examples=BATCH,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @given(mutations(home.model))
    def one(mutation: Mutation) -> None:
        ended, found = tried(home, mutation, f"{number}")
        assert not found, f"{mutation!r}: {found} | {ended.said}"

    one()


def tried(home: Home, mutation: Mutation, draw: str) -> tuple[Ended, list[str]]:
    """One mutation, read by one command; and what did not hold.

    Args:
        home: Where the model and the texts are.
        mutation: The file.
        draw: Decides which command reads it.
    """
    rng = random.Random(draw)
    with tempfile.TemporaryDirectory(dir=home.folder) as folder:
        place = Path(folder) / "place"
        place.mkdir()
        model = Path(folder) / "model"
        model.mkdir()
        for file in home.model.iterdir():
            (model / file.name).hardlink_to(file)
        line = _line(home, mutation, place, model, rng)
        before = _stamps(Path(folder), place)
        apart = rng.random() < 0.01
        ended = run_apart(line, place) if apart else run(line, place, no_network)
        faults = ended.faults() + leftovers(place)
        if ended.code and (place / "out").exists():
            faults.append("half-written output")
        if "the network was asked" in ended.said:
            faults.append("the network was asked")
        if "memory ran out" in ended.said:
            faults.append("more memory than there may be for a model of this size")
        if _stamps(Path(folder), place) != before:
            faults.append("what it reads was changed")
        faults += [f"wrote {path}" for path in ended.changed if not _may(path, place)]
    return ended, faults


def _line(
    home: Home, mutation: Mutation, place: Path, model: Path, rng: random.Random
) -> list[str]:
    """Put the file in its place; the command that reads it."""
    output = place / "out"
    if mutation.name in TEXTS:
        text = model.parent / f"text{mutation.name}"
        text.write_bytes(mutation.content)
        line = ["prune", str(model), "--remove", "1", "--method", "one-shot", *GAME,
                "--calibration", str(text), "--output", str(output)]  # fmt: skip
        return rng.choice([line, line, ["evaluate", str(model), "--text", str(text), "--sequences",
                                        "2", "--length", "16", "--device", "cpu"]])  # fmt: skip
    (model / mutation.name).unlink(missing_ok=True)
    (model / mutation.name).write_bytes(mutation.content)
    prune = ["prune", str(model), "--remove", "1", "--method", "one-shot", *GAME,
             "--calibration", str(home.folder / "text.txt"), "--output", str(output)]  # fmt: skip
    if mutation.name == "chat_template.jinja":
        rows = model.parent / "chat.jsonl"
        row = '{"messages": [{"role": "user", "content": "%s"}]}\n' % ("some words " * 60)
        rows.write_text(row * 40)
        prune[prune.index("--calibration") + 1] = str(rows)
        return prune
    # What does not read the tokenizer is no trial of its files.
    if "token" in mutation.name:
        return prune
    cut = ["cut", str(model), "--layers", str(rng.randrange(5)), "--output", str(output)]
    inspect = ["inspect", str(model)]
    return rng.choice([cut, cut, cut, prune, prune, inspect, home.line("quantize", output, model)])


def _stamps(folder: Path, place: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file that lies outside the place of the run."""
    return {
        str(path): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if place not in path.parents and path.is_file() and not path.name.startswith(place.name)
    }


def _may(path: str, place: Path) -> bool:
    if path in ("/dev/null", str(place)):
        return True
    file = Path(path)
    if place not in file.parents:
        return False
    return file.relative_to(place).parts[0].startswith(_OURS)
