"""Disks that are full, files that refuse or vanish, memory that gives out, clocks that jump."""

import errno
import os
import random
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .acts import as_nobody, at_change, at_read, gone, jumping_clock, no_memory, refused
from .commands import Act, Ended, run
from .home import VERBS, Home, answer, doubled, leftovers, listing, same
from .trial import Trial

_LEARNED = "healing"
"""What `heal` keeps of a run that was stopped, so that the next one goes on from it."""


def disk(home: Home, number: int) -> Trial:
    """One run on a disk of a size at which some write fails; then on one with room."""
    rng = random.Random(f"disk {number}")
    verb = VERBS[number % len(VERBS)]
    plain = home.plain(verb)
    with _room(home) as (folder, place):
        # From nothing to a little more than all that the run ever has on the disk.
        n_bytes = int(rng.uniform(0.01, 1.5) * plain.n_bytes) + 4096
        mounted = ["mount", "-t", "tmpfs", "-o", f"size={n_bytes}", "tmpfs", str(place)]
        if subprocess.run(mounted, check=False, capture_output=True).returncode:
            return {"what": "no disk can be mounted here", "exit": None, "faults": []}
        try:
            line = home.line(verb, place / "out")
            ended = run(line, place, TMPDIR=str(folder))
            faults = ended.faults() + _unfinished(ended, place)
            if ended.code == 2:
                faults.append("a full disk is no mistake of the user")
            subprocess.run(["mount", "-o", "remount,size=50m", str(place)], check=True)
            faults += _again(home, verb, place, TMPDIR=str(folder))
        finally:
            subprocess.run(["umount", "-l", str(place)], check=False)
    return {"what": f"{verb} on a small disk", "exit": ended.code, "faults": faults,
            "moments": [f"{n_bytes} bytes"], "said": ended.said.strip()[-300:]}  # fmt: skip


def refusals(home: Home, number: int) -> Trial:
    """The system refuses one change of a file, whichever it is; the next run is undisturbed."""
    rng = random.Random(f"refusals {number}")
    verb = VERBS[number % len(VERBS)]
    plain = home.plain(verb)
    kind = rng.choice(["ENOSPC", "EIO", "EACCES", "EROFS", "EDQUOT", "EMFILE", "ESTALE"])
    at = rng.randrange(plain.n_changes)
    with _room(home) as (_, place):
        act = at_change(at, place, refused(getattr(errno, kind)), removals=False)
        ended = run(home.line(verb, place / "out"), place, act)
        faults = ended.faults() + _unfinished(ended, place) + _again(home, verb, place)
        if ended.code and not kind[1:3].lower() and not ended.said.strip():
            faults.append("nothing was said")
    return {"what": f"{verb}, a change refused", "exit": ended.code, "faults": faults,
            "moments": [f"{kind} at change {at}"], "said": ended.said.strip()[-300:]}  # fmt: skip


def vanishing(home: Home, number: int) -> Trial:
    """A file or folder that a run reads is removed, or refuses, when it is about to be read."""
    rng = random.Random(f"vanishing {number}")
    verb = VERBS[number % len(VERBS)]
    with _room(home) as (folder, place):
        model = Path(shutil.copytree(home.cut if verb == "heal" else home.model, folder / "model"))
        how = rng.choice(["gone", "EIO", "EACCES", "ESTALE"])
        do = gone if how == "gone" else refused(getattr(errno, how))
        at = rng.randrange(40)
        line = home.line(verb, place / "out", model)
        ended = run(line, place, at_read(at, model, do))
        faults = ended.faults() + _unfinished(ended, place)
    return {"what": f"{verb}, a file vanishes", "exit": ended.code, "faults": faults,
            "moments": [f"{how} at read {at}"], "said": ended.said.strip()[-300:]}  # fmt: skip


def rights(home: Home, number: int) -> Trial:
    """A user who may not read or write something says so in one line, and nothing is begun."""
    kinds = ("the model", "a file of the model", "the text", "the place of the output",
             "the output", "the store", "the folder of the store", "the scratch folder",
             "the current folder")  # fmt: skip
    verb, kind = VERBS[number % len(VERBS)], kinds[number // len(VERBS) % len(kinds)]
    with _room(home) as (folder, place):
        model = Path(shutil.copytree(home.cut if verb == "heal" else home.model, folder / "model"))
        line = home.line(verb, place / "out", model)
        place.chmod(0o777)
        (place / "scratch").mkdir()
        (place / "scratch").chmod(0o777)
        environment: dict[str, str] = {}
        if kind == "the model":
            model.chmod(0)
        elif kind == "a file of the model":
            (model / ("config.json", "model.safetensors", "tokenizer.json")[number % 3]).chmod(0)
        elif kind == "the text":
            text = place / "text.txt"
            text.write_bytes((home.folder / "text.txt").read_bytes())
            text.chmod(0)
            line = [str(text) if word.endswith(("judges.txt", "text.txt")) else word
                    for word in line]  # fmt: skip
        elif kind == "the place of the output":
            (place / "shut").mkdir()
            line[-1] = str(place / "shut" / "out")
        elif kind == "the output":
            (place / "out").mkdir(mode=0o755)
        elif kind == "the store":
            (place / "store.sqlite").touch(0o600)
        elif kind == "the folder of the store":
            (place / "shut").mkdir(mode=0o755)
            environment["COTERIE_STORE"] = str(place / "shut" / "store.sqlite")
        elif kind == "the scratch folder":
            environment["TMPDIR"] = str(place / "shut")
            (place / "shut").mkdir(mode=0o755)
        else:
            place.chmod(0o755)
            (place / "free").mkdir()
            (place / "free").chmod(0o777)
            line[-1] = str(place / "free" / "out")
            environment["COTERIE_STORE"] = str(place / "free" / "store.sqlite")
        ended = run(line, place, as_nobody, **environment)
        faults = ended.faults()
        place.chmod(0o777)
        model.chmod(0o755)
        if ended.code and kind != "the output" and (place / "out").exists():
            faults.append("half-written output")
    return {"what": f"{kind} is not ours", "exit": ended.code, "faults": faults,
            "said": ended.said.strip()[-300:]}  # fmt: skip


def memory(home: Home, number: int) -> Trial:
    """Torch's allocator gives nothing at some operation, or the machine nothing beyond a bound."""
    rng = random.Random(f"memory {number}")
    verb = VERBS[number % len(VERBS)]
    plain = home.plain(verb)
    with _room(home) as (_, place):
        if number % 4 == 3:
            more = rng.randint(1, 400) * 10**6
            moment, act = f"{more} bytes more", _bounded(more)
            what = f"{verb}, memory bounded"
        else:
            at, words = (
                rng.randrange(max(plain.n_operations, 1)),
                ("cuda", "cpu", "python")[number % 3],
            )
            moment, act = f"operation {at} of {plain.n_operations}, {words}", no_memory(at, words)
            what = f"{verb}, no memory"
        ended = run(home.line(verb, place / "out"), place, act)
        faults = ended.faults() + _unfinished(ended, place)
        if ended.code == 0 and not same(answer(place / "out"), plain.answer):
            faults.append("another answer")
        if ended.code == 2:
            faults.append("memory is no mistake of the user")
        faults += _again(home, verb, place)
    return {"what": what, "exit": ended.code, "faults": faults, "moments": [moment],
            "said": ended.said.strip()[-300:]}  # fmt: skip


def clocks(home: Home, number: int) -> Trial:
    """The clocks jump at every look; files are of the next century: the answer is the same."""
    rng = random.Random(f"clocks {number}")
    verb = VERBS[number % len(VERBS)]
    plain = home.plain(verb)
    with _room(home) as (_, place):
        ended = run(home.line(verb, place / "out"), place, jumping_clock(rng))
        faults = ended.faults((0,)) + leftovers(place)
        if ended.code == 0 and not same(answer(place / "out"), plain.answer):
            faults.append("another answer")
    return {"what": f"{verb}, clocks jump", "exit": ended.code, "faults": faults,
            "said": ended.said.strip()[-300:]}  # fmt: skip


@contextmanager
def _room(home: Home) -> Iterator[tuple[Path, Path]]:
    """A folder that is gone at the end, and the place of a run in it."""
    with tempfile.TemporaryDirectory(dir=home.folder) as folder:
        Path(folder).chmod(0o755)
        place = Path(folder) / "place"
        place.mkdir()
        yield Path(folder), place


def _unfinished(ended: Ended, place: Path) -> list[str]:
    """What a run that failed has left, but for what it has learned."""
    if not ended.code:
        return leftovers(place)
    left = [name for name in leftovers(place) if _LEARNED not in name]
    return left + ["half-written output"] * (place / "out").exists()


def _again(home: Home, verb: str, place: Path, **environment: str) -> list[str]:
    """What is wrong with the next run, to which nothing is done."""
    ended = run(home.line(verb, place / "out"), place, **environment)
    faults = [f"the next run: {fault}" for fault in ended.faults((0,))]
    if faults:
        faults.append(ended.said.strip()[-300:])
    elif not same(answer(place / "out"), home.plain(verb).answer):
        faults.append("the next run: another answer")
    names, _ = listing(place)
    faults += [f"the next run left {name}" for name in sorted(names - home.plain(verb).names)]
    return faults + doubled(place / "store.sqlite")


def _bounded(more: int) -> Act:
    def act() -> None:
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")
        resource.setrlimit(resource.RLIMIT_AS, (mapped + more, mapped + more))

    return act
