"""What tests and the examples in docstrings share."""

import gc
import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may reach the network

import pytest

PACKAGE = Path(__file__).parent / "src" / "coterie"


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Of the package only modules with an example are collected: the others are not imported."""
    if collection_path.suffix != ".py" or not collection_path.is_relative_to(PACKAGE):
        return None
    return True if ">>> " not in collection_path.read_text(encoding="utf-8") else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what the gate leaves out by its name."""
    from tests.slow import is_slow

    for item in items:
        if is_slow(item.nodeid):
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish() -> None:
    """What was imported stays: no collection of garbage looks through it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Examples write into `folder`, which is new for each docstring."""
    if isinstance(request.node, pytest.DoctestItem):
        request.node.dtest.globs["folder"] = tmp_path_factory.mktemp("example")


@pytest.fixture(autouse=True)
def a_few_words(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What models write is short, but where that is what is tested."""
    if "generation" not in request.node.nodeid:
        from coterie.scores import generation

        monkeypatch.setattr(generation, "PROMPTS", 2)
        monkeypatch.setattr(generation, "NEW_TOKENS", 4)
