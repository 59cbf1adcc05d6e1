"""Two writers at once, a store that is copied while it is used, a store of another format."""

import random
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from .commands import forked, run
from .home import Home, answer, doubled, leftovers, same
from .trial import Trial

_TOGETHER = ("prune", "compare", "sparsify", "heal", "quantize")


def writers(home: Home, number: int) -> Trial:
    """Two runs at once: one store, one output or two; both end, and one answer stands."""
    rng = random.Random(f"writers {number}")
    same, verb = number % 2 == 0, _TOGETHER[number // 2 % len(_TOGETHER)]
    plain = home.plain(verb)
    with tempfile.TemporaryDirectory(dir=home.folder) as folder:
        place = Path(folder) / "place"
        place.mkdir()
        first = forked(home.line(verb, place / "out"), place)
        time.sleep(rng.random() * plain.ended.waited)
        second = forked(home.line(verb, place / ("out" if same else "out2")), place)
        ends = [one.end() for one in (first, second)]
        faults = [fault for ended in ends for fault in ended.faults((0, 2))]
        if not any(ended.code == 0 for ended in ends):
            faults.append("neither ended well")
        for name in ("out",) if same else ("out", "out2"):
            if not same(answer(place / name), plain.answer):
                faults.append(f"another answer in {name}")
        faults += leftovers(place) + doubled(place / "store.sqlite")
        said = " | ".join(ended.said.strip()[-150:] for ended in ends if ended.code)
    what = f"two runs of {verb}, one {'output' if same else 'store'}"
    return {"what": what, "exit": [ended.code for ended in ends], "faults": faults, "said": said}


def stores(home: Home, number: int) -> Trial:
    """A store that somebody copied, or that another version of this program made."""
    kinds = list(_KINDS)
    kind, verb = kinds[number % len(kinds)], ("prune", "compare")[number // len(kinds) % 2]
    plain = home.plain(verb)
    with tempfile.TemporaryDirectory(dir=home.folder) as folder:
        place = Path(folder) / "place"
        place.mkdir()
        rng = random.Random(f"stores {number}")
        _KINDS[kind](home, verb, place, rng)
        ended = run(home.line(verb, place / "out"), place)
        refused = kind in _REFUSED
        faults = ended.faults((2,) if refused else (0,))
        if ended.code == 0 and not same(answer(place / "out"), plain.answer):
            faults.append("another answer")
        if refused and not any(word in ended.said for word in ("--store", "COTERIE_STORE")):
            faults.append("the words do not say what helps")
        faults += leftovers(place) + ([] if refused else doubled(place / "store.sqlite"))
    return {"what": f"{verb} on a store {kind}", "exit": ended.code, "faults": faults,
            "said": ended.said.strip()[-300:]}  # fmt: skip


Prepare = Callable[[Home, str, Path, random.Random], None]


def _used(home: Home, verb: str, place: Path, rng: random.Random, *, beside: bool) -> None:
    """A store copied at some moment of a run, with or without its journal beside it."""
    other = place.parent / "other"
    other.mkdir()
    begun = forked(home.line(verb, other / "out"), other)
    time.sleep(rng.random() * home.plain(verb).ended.waited)
    for name in ("", "-wal", "-shm") if beside else ("",):
        file = other / f"store.sqlite{name}"
        if file.is_file():
            shutil.copy(file, place)
    begun.end()


def _copied(home: Home, verb: str, place: Path, rng: random.Random) -> None:
    _used(home, verb, place, rng, beside=False)


def _copied_whole(home: Home, verb: str, place: Path, rng: random.Random) -> None:
    _used(home, verb, place, rng, beside=True)


def _finished(home: Home, verb: str, place: Path) -> Path:
    run(home.line(verb, place / "out"), place)
    shutil.rmtree(place / "out")
    return place / "store.sqlite"


def _complete(home: Home, verb: str, place: Path, _: random.Random) -> None:
    _finished(home, verb, place)


def _newer(home: Home, verb: str, place: Path, _: random.Random) -> None:
    with sqlite3.connect(_finished(home, verb, place)) as db:
        db.execute("PRAGMA user_version = 99")


def _older(home: Home, verb: str, place: Path, _: random.Random) -> None:
    """Without a number of its format, as the first ones were written."""
    with sqlite3.connect(_finished(home, verb, place)) as db:
        db.execute("PRAGMA user_version = 0")


def _older_tables(home: Home, verb: str, place: Path, _: random.Random) -> None:
    """Without the table of notes, and with other columns where they were added later."""
    with sqlite3.connect(_finished(home, verb, place)) as db:
        db.execute("DROP TABLE note")
        db.execute("PRAGMA user_version = 0")


def _foreign(_: Home, __: str, place: Path, ___: random.Random) -> None:
    with sqlite3.connect(place / "store.sqlite") as db:
        db.execute("CREATE TABLE game (name TEXT)")
        db.execute("INSERT INTO game VALUES ('chess')")


def _torn(home: Home, verb: str, place: Path, rng: random.Random) -> None:
    file = _finished(home, verb, place)
    data = bytearray(file.read_bytes())
    for _ in range(40):
        data[rng.randrange(len(data))] = rng.randrange(256)
    file.write_bytes(data[: rng.randrange(200, len(data))])


def _no_file(_: Home, __: str, place: Path, ___: random.Random) -> None:
    (place / "store.sqlite").write_text("a diary, and no store\n" * 400)


def _folder(_: Home, __: str, place: Path, ___: random.Random) -> None:
    (place / "store.sqlite").mkdir()


_KINDS: dict[str, Prepare] = {
    "copied while in use, without its journal": _copied,
    "copied while in use, with its journal": _copied_whole,
    "that is complete": _complete,
    "of a newer format": _newer,
    "of an older format": _older,
    "of an older format, with fewer tables": _older_tables,
    "of another program": _foreign,
    "that is torn": _torn,
    "that is a text": _no_file,
    "that is a folder": _folder,
}
_REFUSED = ("of a newer format", "of another program", "that is torn", "that is a text",
            "that is a folder")  # fmt: skip
