"""A command in a process that can be killed, starved and watched, begun within milliseconds.

The campaign has read torch and transformers once; a command is a fork of it. What is disturbed is
disturbed inside the fork: an `Act` is done there before the command begins.
"""

import os
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

MOST_SECONDS, MOST_BYTES = 60, 4 * 10**9
NO_END, NOT_TOLD = 124, 70

Act = Callable[[], None]
"""Done in the process of a command before it begins: a hook is set, a function replaced."""

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink",
            "os.truncate", "os.chmod", "shutil.rmtree", "sqlite3.connect")  # fmt: skip


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: Its exit code; negative where a signal ended it.
        said: What it wrote to stderr.
        seconds: How long it took, of the processor: a machine may be shared.
        waited: How long it took by the clock.
        n_bytes: The most memory that was resident.
        changed: Paths that it opened for writing, made, renamed or removed, in this order.
    """

    code: int
    said: str
    seconds: float = 0.0
    n_bytes: int = 0
    changed: tuple[str, ...] = ()
    waited: float = 0.0

    def faults(self, allowed: tuple[int, ...] = (0, 1, 2)) -> list[str]:
        """What no command may ever do, whatever is done to it."""
        found = [] if self.code in allowed else [f"exit {self.code}"]
        if "Traceback (most recent call last)" in self.said:
            found.append("traceback")
        if "that was not foreseen" in self.said:
            found.append("not foreseen: " + self.said.strip().splitlines()[-1][-300:])
        if self.seconds > MOST_SECONDS:
            found.append(f"{self.seconds:.0f} s")
        if self.n_bytes > MOST_BYTES:
            found.append(f"{self.n_bytes:,} bytes")
        return found


@dataclass
class Begun:
    """A command under way."""

    process: int
    aside: Path
    began: float = field(default_factory=time.monotonic)

    def kill(self) -> None:
        """End it as `kill -9` does."""
        os.kill(self.process, signal.SIGKILL)

    def end(self, most: float = 15 * MOST_SECONDS) -> Ended:
        """Wait for its end; it is killed when it takes too long.

        Args:
            most: Seconds from its beginning.
        """
        late = False
        while True:
            done, status, usage = os.wait4(self.process, os.WNOHANG)
            if done:
                break
            if not late and time.monotonic() - self.began > most:
                late = True
                self.kill()
            time.sleep(0.005)
        code = os.waitstatus_to_exitcode(status)
        said, changed = (_text(self.aside.with_suffix(kind)) for kind in (".said", ".changed"))
        for kind in (".said", ".changed"):
            self.aside.with_suffix(kind).unlink(missing_ok=True)
        waited, seconds = time.monotonic() - self.began, usage.ru_utime + usage.ru_stime
        n_bytes, paths = 1024 * usage.ru_maxrss, tuple(changed.splitlines())
        return Ended(NO_END if late else code, said, seconds, n_bytes, paths, waited)


Work = Callable[[], int]
"""Done in a process of its own instead of one command; its result is the exit code."""


def forked(line: list[str] | Work, place: Path, *acts: Act, **environment: str) -> Begun:
    """A command, begun in a fork of this process, with bounded memory and without a network.

    Args:
        line: Its words; or a function, that runs as many commands as it likes.
        place: Folder it runs in; its store, its scratch and its caches lie there.
        acts: Done before it begins.
        environment: Variables that differ.
    """
    aside = place.parent / f"{place.name}-{time.monotonic_ns()}"
    process = os.fork()
    if process:
        return Begun(process, aside)
    code = NOT_TOLD
    try:
        code = _child(line, place, aside, acts, environment)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else NOT_TOLD
    except BaseException:  # what must never happen is what is looked for
        traceback.print_exc()
    finally:
        # Whatever else fails: this process must never go on as the campaign.
        try:
            sys.stderr.flush()
        finally:
            os._exit(code)


def run(line: list[str], place: Path, *acts: Act, **environment: str) -> Ended:
    """A command that is let run; as `forked`."""
    return forked(line, place, *acts, **environment).end()


def run_apart(line: list[str], place: Path, **environment: str) -> Ended:
    """A command as a user runs it: a new Python, without acts; time and memory are not counted."""
    done = subprocess.run(
        [sys.executable, "-m", "coterie", *line],
        env={**os.environ, **_own(place), **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        cwd=place,
        check=False,
        timeout=10 * MOST_SECONDS,
    )
    return Ended(done.returncode, done.stderr)


def _own(place: Path) -> dict[str, str]:
    scratch = place / "scratch"
    scratch.mkdir(exist_ok=True)
    return {"COTERIE_STORE": str(place / "store.sqlite"), "HF_HUB_OFFLINE": "1",
            "HOME": str(place / "home"), "MPLCONFIGDIR": str(place.parent.parent / "fonts"),
            "OMP_NUM_THREADS": "1", "TMPDIR": str(scratch), "TOKENIZERS_PARALLELISM": "false",
            "PYTHONDONTWRITEBYTECODE": "1"}  # fmt: skip


def _child(
    line: list[str] | Work,
    place: Path,
    aside: Path,
    acts: tuple[Act, ...],
    environment: dict[str, str],
) -> int:
    import tempfile

    from coterie.cli import main as command

    os.setpgrp()
    os.environ.update({**_own(place), **environment})
    tempfile.tempdir = os.environ["TMPDIR"]
    sys.dont_write_bytecode = True
    os.chdir(place)
    # Of addresses, beside those that are mapped already; what is resident is counted at the end.
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    most = mapped + MOST_BYTES + MOST_BYTES // 2
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not callable(line):
        resource.setrlimit(resource.RLIMIT_CPU, (MOST_SECONDS + 5, MOST_SECONDS + 5))
    said = os.open(aside.with_suffix(".said"), os.O_WRONLY | os.O_CREAT, 0o666)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(said, 2)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False, buffering=1)  # noqa: SIM115
    watch(os.open(aside.with_suffix(".changed"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666))
    for act in acts:
        act()
    return line() if callable(line) else command(line)


def watch(log: int) -> None:
    """Write down every path that this process changes from now on.

    Args:
        log: A file descriptor, open for writing.
    """

    def seen(event: str, args: tuple[object, ...]) -> None:
        for path in changes(event, args):
            os.write(log, (path.replace("\n", " ") + "\n").encode("utf-8", "surrogateescape"))

    look(seen)


Seen = Callable[[str, tuple[object, ...]], None]
"""Told of every event of Python's audit; what it raises, the process meets there."""

_LOOKING: list[Seen] = []
_HOOKED: list[bool] = []


def look(seen: Seen) -> None:
    """Tell somebody of every event of Python's audit from now on."""
    if not _HOOKED:
        # A hook of the interpreter stays for good: there is one, and those who look may go.
        sys.addaudithook(lambda event, args: [seen(event, args) for seen in _LOOKING] and None)
        _HOOKED.append(True)
    _LOOKING.append(seen)


def look_away() -> None:
    """Tell nobody any more."""
    _LOOKING.clear()


def changes(event: str, args: tuple[object, ...]) -> list[str]:
    """The paths that an event of Python's audit changes; empty for one that only reads."""
    if event == "open":
        path, _, flags = args
        if isinstance(flags, int) and flags & _WRITING and not isinstance(path, int):
            return [whole(path)]
        return []
    if event not in _CHANGES:
        return []
    if event == "sqlite3.connect" and (":memory:" in str(args[0]) or "mode=ro" in str(args[0])):
        return []
    two = event in ("os.rename", "os.link", "os.symlink")
    # What follows the names: the folders, as open files, that relative names are meant in.
    folders = [one for one in args[2 if two else 1 :] if isinstance(one, int)][-1:]
    inside = folders[0] if folders and event not in ("os.chmod", "os.truncate") else -1
    paths = args[:2] if two else args[:1]
    return [whole(path, inside) for path in paths if isinstance(path, str | bytes | os.PathLike)]


def whole(path: object, inside: int = -1) -> str:
    """A path from the root on, links in it as they are; empty for what is no path.

    Args:
        path: As it was given to the system.
        inside: The folder that a relative one is meant in, as an open file; -1 is the current one.
    """
    if not isinstance(path, str | bytes | os.PathLike):
        return ""
    if inside >= 0 and (folder := Path(f"/proc/self/fd/{inside}")).exists():
        path = folder.readlink() / os.fsdecode(path)
    return os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - pathlib would follow the links


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
