"""A checkpoint and a text, saved once for every file of tests that asks for them."""

import pytest
import torch
from tests.tiny import save_llama, save_text


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    save_llama(home / "model", dtype=torch.float32)
    save_text(home / "text.txt")
    return home
