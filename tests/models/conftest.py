"""A small Llama, in memory and on disk, for the tests of this folder."""

from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedModel
from transformers.utils import logging

from coterie.models.files.sources import Source, resolve
from coterie.testing.small_sizes import VOCABULARY
from coterie.testing.tiny import tiny_model

logging.disable_progress_bar()


@pytest.fixture(scope="session")
def llama() -> PreTrainedModel:
    """A Llama of six layers. Nobody may change it: one copy serves every test."""
    model = tiny_model("llama", 6)
    assert isinstance(model, LlamaForCausalLM)
    return model


@pytest.fixture(scope="session")
def folder(llama, tmp_path_factory) -> Path:
    """The same model on disk, in several shards, with the small files a checkpoint has."""
    folder = tmp_path_factory.mktemp("checkpoints") / "small-llama"
    llama.save_pretrained(folder, max_shard_size="60KB")
    (folder / "LICENSE").write_text("as you like", encoding="utf-8")
    (folder / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def source(folder) -> Source:
    return resolve(str(folder))


@pytest.fixture(scope="session")
def tokens() -> torch.Tensor:
    """Token ids ``(2, 16)``."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(3, VOCABULARY, (2, 16), generator=generator)
