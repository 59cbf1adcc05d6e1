"""A tiny model, a cut of it, and text, all made in memory."""

from pathlib import Path

import pytest
from tests.tiny import save_llama, save_text

from coterie.models.cutting.write import write_cut
from coterie.models.files.sources import resolve

KEPT = (0, 2, 3, 5)


@pytest.fixture(scope="session")
def whole(tmp_path_factory) -> Path:
    return save_llama(tmp_path_factory.mktemp("deploy") / "whole")


@pytest.fixture(scope="session")
def cut(whole) -> Path:
    folder = whole.parent / "cut"
    write_cut(resolve(str(whole)), KEPT, folder)
    return folder


@pytest.fixture(scope="session")
def text(whole) -> Path:
    return save_text(whole.parent / "text.txt")
