"""Mutated files, each read by a command: it is read, or refused in one line, within bounds."""

import contextlib
import io
import json
import os
import random
import shutil
import signal
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from .acts import no_network
from .commands import MOST_SECONDS, Ended, changes, forked, look, look_away, run_apart
from .home import GAME, Home, leftovers
from .mutations import TEXTS, Mutation, mutations
from .trial import Trial

BATCH = 50
"""Mutations of a trial, all of them in one process of its own; one of a hundred in a new Python."""

_OURS = ("out", ".out.", "store.sqlite", "scratch", "home", "result")
"""How the names begin that a command may make where it runs."""


def fuzz(home: Home, number: int) -> Trial:
    """A batch of mutations, every one of them tried, in a process that nothing else shares."""
    with tempfile.TemporaryDirectory(dir=home.folder) as folder:
        place = Path(folder) / "place"
        place.mkdir()
        result = place / "result.jsonl"
        ended = forked(lambda: _batch(home, number, place, result), place, no_network).end(7200)
        lines = [json.loads(line) for line in result.read_text().splitlines()]
    # The first word of a pair is written before the command, so that whoever kills is known.
    tried = [one for one in lines if "faults" in one]
    faults = [f"{one['how']}: {fault} | {one['said']}" for one in tried for fault in one["faults"]]
    if ended.code:
        faults.append(f"{lines[-1]['how']}: the process ended with {ended.code} | {ended.said}")
    if ended.n_bytes > 4 * 10**9:
        faults.append(f"{ended.n_bytes:,} bytes")
    ends = Counter(f"exit {one['code']}" for one in tried)
    return {"what": "a batch of mutations", "exit": ended.code, "faults": faults,
            "examples": len(tried), "ends": dict(ends)}  # fmt: skip


def smallest(home: Home, number: int) -> None:
    """The same batch, stopped at its first fault, which hypothesis makes as small as it can.

    Raises:
        AssertionError: with the smallest mutation that fails.
    """
    with tempfile.TemporaryDirectory(dir=home.folder) as folder:
        place = Path(folder) / "place"
        (place / "scratch").mkdir(parents=True)
        os.environ["COTERIE_STORE"] = str(place / "store.sqlite")

        def one(mutation: Mutation) -> None:
            ended, found = tried(home, mutation, place, str(number))
            assert not found, f"{mutation!r}: {found} | {ended.said}"

        _given(home, number, one, [Phase.generate, Phase.shrink])


def _given(home: Home, number: int, one, phases) -> None:  # type: ignore[no-untyped-def]
    chosen = settings(
        max_examples=BATCH,
        phases=phases,
        database=None,
        deadline=None,
        print_blob=False,
        suppress_health_check=list(HealthCheck),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seed(number)(chosen(given(mutations(home.model))(one)))()


def _batch(home: Home, number: int, place: Path, result: Path) -> int:
    count = 0

    def late(*_: object) -> None:
        raise TimeoutError(f"more than {MOST_SECONDS} s of the processor")

    signal.signal(signal.SIGVTALRM, late)

    def one(mutation: Mutation) -> None:
        nonlocal count
        count += 1
        with result.open("a") as log:
            log.write(json.dumps({"how": repr(mutation)}) + "\n")
        ended, found = tried(home, mutation, place, f"{number} {count}")
        line = {"how": repr(mutation), "code": ended.code, "faults": found,
                "seconds": round(ended.seconds, 2), "said": ended.said.strip()[-200:]}  # fmt: skip
        with result.open("a") as log:
            log.write(json.dumps(line) + "\n")

    _given(home, number, one, [Phase.generate])
    return 0


def tried(home: Home, mutation: Mutation, place: Path, draw: str) -> tuple[Ended, list[str]]:
    """One mutation, read by one command in this process; and what did not hold.

    Args:
        home: Where the model and the texts are.
        mutation: The file.
        place: Where the command writes; what it reads lies beside it.
        draw: Decides which command reads it.
    """
    rng = random.Random(draw)
    with tempfile.TemporaryDirectory(dir=place.parent) as folder:
        model = Path(folder) / "model"
        model.mkdir()
        for file in home.model.iterdir():
            (model / file.name).hardlink_to(file)
        line = _line(home, mutation, place, model, rng)
        before = _stamps(Path(folder))
        ended = run_apart(line, place) if rng.random() < 0.01 else _inside(line)
        faults = ended.faults() + leftovers(place)
        if ended.code and (place / "out").exists():
            faults.append("half-written output")
        if "the network was asked" in ended.said:
            faults.append("the network was asked")
        if "memory ran out" in ended.said:
            faults.append("more memory than there may be for a model of this size")
        if _stamps(Path(folder)) != before:
            faults.append("what it reads was changed")
        faults += [f"wrote {path}" for path in ended.changed if not _may(path, place)]
        shutil.rmtree(place / "out", ignore_errors=True)
    return ended, faults


def _inside(line: list[str]) -> Ended:
    """A command in this process, its changes of files noted."""
    from coterie.cli import main as command

    said, changed = io.StringIO(), list[str]()
    began = time.process_time()
    signal.setitimer(signal.ITIMER_VIRTUAL, MOST_SECONDS)
    look(lambda event, args: changed.extend(changes(event, args)))
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            code = command(line)
    except BaseException:  # what must never happen is what is looked for
        code = 1
        said.write(traceback.format_exc())
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        look_away()
    return Ended(code, said.getvalue(), time.process_time() - began, 0, tuple(changed))


def _line(
    home: Home, mutation: Mutation, place: Path, model: Path, rng: random.Random
) -> list[str]:
    """Put the file in its place; the command that reads it."""
    output = place / "out"
    if mutation.name in TEXTS:
        text = model.parent / f"text{mutation.name}"
        text.write_bytes(mutation.content)
        return _read(model, text, output, rng)
    (model / mutation.name).unlink(missing_ok=True)
    (model / mutation.name).write_bytes(mutation.content)
    if mutation.name == "model.safetensors.index.json" and rng.random() < 0.5:
        (model / "model.safetensors").unlink()
    if mutation.name == "chat_template.jinja":
        rows = model.parent / "chat.jsonl"
        rows.write_text(json.dumps({"messages": [{"role": "user", "content": "words " * 90}]}))
        return _read(model, rows, output, rng)
    # What does not read the tokenizer is no trial of its files.
    if "token" in mutation.name:
        return _read(model, home.folder / "text.txt", output, rng)
    cut = ["cut", str(model), "--layers", str(rng.randrange(5)), "--output", str(output)]
    prune = _prune(model, home.folder / "text.txt", output)
    return rng.choice([*[cut] * 6, prune, ["inspect", str(model)], [*prune, "--dry-run"]])


def _prune(model: Path, text: Path, output: Path) -> list[str]:
    return ["prune", str(model), "--remove", "1", "--method", "one-shot", *GAME,
            "--calibration", str(text), "--output", str(output)]  # fmt: skip


def _read(model: Path, text: Path, output: Path, rng: random.Random) -> list[str]:
    """A command that reads texts; most of them go no further than their plan."""
    plan = ["--dry-run"] if rng.random() < 0.8 else []
    return [*_prune(model, text, output), *plan]


def _stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file below a folder."""
    return {
        str(path): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def _may(path: str, place: Path) -> bool:
    if path in ("/dev/null", str(place)):
        return True
    file = Path(path)
    if place not in file.parents:
        return False
    return file.relative_to(place).parts[0].startswith(_OURS)
