"""One tiny model for all rivals, and a task on it."""

import pytest
from tests.rivals.tasks import llama, make_task
from transformers import LlamaForCausalLM

from coterie.rivals.interface import Task


@pytest.fixture(scope="package")
def model() -> LlamaForCausalLM:
    return llama()


@pytest.fixture
def task(model: LlamaForCausalLM) -> Task:
    return make_task(model, (1, 2, 3))
