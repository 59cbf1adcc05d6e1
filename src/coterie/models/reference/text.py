"""The text every CPython carries: the standard library's sources and the topics of its help.

The reference model trains on the sources, minus whole held-out modules. Those modules and the help
topics are the `stdlib` text, in two halves that never meet: one to calibrate on, one to judge on. A
document is one module's source or one topic; its half is decided by a hash of its NAME, so it does
not change sides between Python versions. What does change between versions is the text itself:
a module is edited, a topic is added, so the hash of the text stands in every report.
"""

import hashlib
import importlib.util
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

Document = tuple[str, str]
"""A name and a text."""

Half = Literal["calibration", "verdict"]

HELD_OUT_MODULES = (
    "argparse", "bisect", "calendar", "configparser", "contextlib", "copy", "csv", "dataclasses",
    "difflib", "fractions", "functools", "gettext", "graphlib", "heapq", "inspect", "ipaddress",
    "mailbox", "numbers", "pickletools", "pprint", "random", "sched", "selectors", "shelve",
    "shlex", "shutil", "smtplib", "socketserver", "statistics", "tarfile", "tempfile", "textwrap",
    "timeit", "trace", "traceback", "turtle", "uuid", "warnings", "weakref", "zipapp",
)  # fmt: skip
"""Top-level single-file modules present in every CPython from 3.11 to 3.14."""

_NOT_TRAINED_ON = {"test", "tests", "idle_test", "site-packages", "dist-packages", "pydoc_data"}
_NOT_TRAINED_ON |= {"encodings", "lib-dynload", "__pycache__", "__phello__"}  # tables, binaries


def training_documents() -> Iterator[Document]:
    """Every source file of the standard library except tests, tables and held-out modules.

    Raises:
        FileNotFoundError: this Python carries no sources (a zipped or stripped distribution).
    """
    library = Path(sysconfig.get_paths()["stdlib"])
    held_out = {f"{name}.py" for name in HELD_OUT_MODULES}
    paths = sorted(library.rglob("*.py")) if library.is_dir() else []
    if not paths:
        raise FileNotFoundError(f"no sources of the standard library under {library}")
    for path in paths:
        name = path.relative_to(library)
        if not _NOT_TRAINED_ON.intersection(name.parts) and str(name) not in held_out:
            text = path.read_text(encoding="utf-8", errors="replace")
            if len(text) > 200:
                yield str(name), text


def stdlib_documents(half: Half) -> list[Document]:
    """The documents of one half of the held-out text, ordered by name.

    Raises:
        FileNotFoundError: this Python carries neither sources nor help topics.
    """
    documents = [*_modules(), *_topics()]
    if not documents:
        raise FileNotFoundError("this Python carries neither library sources nor pydoc topics")
    return [document for document in sorted(documents) if _half(document[0]) == half]


def _modules() -> Iterator[Document]:
    for name in HELD_OUT_MODULES:
        spec = importlib.util.find_spec(name)
        if spec and spec.origin and Path(spec.origin).suffix == ".py":
            yield f"{name}.py", Path(spec.origin).read_text(encoding="utf-8")


def _topics() -> Iterator[Document]:
    from pydoc_data import topics

    yield from ((f"topic:{name}", text) for name, text in topics.topics.items())


def _half(name: str) -> Half:
    return "calibration" if hashlib.sha256(name.encode()).digest()[0] % 2 else "verdict"
