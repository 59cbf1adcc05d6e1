"""The model that ships: its texts never meet, its training resumes, its weights are small."""

import json
import math

import numpy as np
import pytest
import torch
from tools.train_reference import Batches, Muon, _load, _save, learning_rate
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from coterie.models.files.places import reference_folder
from coterie.models.reference.text import HELD_OUT_MODULES, stdlib_documents, training_documents


def test_what_judges_what_calibrates_and_what_trains_are_three_things():
    calibration, verdict = (dict(stdlib_documents(half)) for half in ("calibration", "verdict"))
    training = {name for name, _ in training_documents()}
    assert len(calibration) > 20 and len(verdict) > 20
    assert not calibration.keys() & verdict.keys()
    assert not training & {f"{name}.py" for name in HELD_OUT_MODULES}
    assert {f"{name}.py" for name in HELD_OUT_MODULES} <= calibration.keys() | verdict.keys()
    assert any(name.startswith("topic:") for name in verdict)


def test_the_half_of_a_document_is_decided_by_its_name_alone():
    calibration = {name for name, _ in stdlib_documents("calibration")}
    verdict = {name for name, _ in stdlib_documents("verdict")}
    assert {"argparse.py", "shutil.py"} <= calibration | verdict
    assert ("heapq.py" in calibration) != ("heapq.py" in verdict)
    assert [name for name, _ in stdlib_documents("verdict")] == sorted(verdict)


def test_the_learning_rate_rises_stays_and_falls_to_zero():
    rates = [learning_rate(step, 1000) for step in range(1001)]
    assert rates[0] < 0.1 and rates[100] == rates[500] == 1.0
    assert rates[750] == pytest.approx(0.5) and rates[1000] == 0.0


def test_any_batch_can_be_had_at_any_time():
    documents = [np.arange(start, start + 50, dtype=np.uint16) for start in range(0, 500, 50)]
    batches = Batches(documents, length=8, size=4, seed=0)
    later = batches[40]
    assert later.shape == (4, 8)
    epoch = torch.cat([batches[step] for step in range(batches.per_epoch)]).flatten()
    assert len(set(epoch.tolist())) == len(epoch)  # nothing is read twice in an epoch
    assert torch.equal(later, Batches(documents, length=8, size=4, seed=0)[40])


def tiny():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "layers" in n]
    rest = [p for n, p in model.named_parameters() if not (p.ndim == 2 and "layers" in n)]
    return model, [Muon(matrices, lr=0.02), torch.optim.AdamW(rest, lr=4e-3)]


def steps(model, optimizers, first, last):
    losses = []
    for step in range(first, last):
        batch = torch.arange(step, step + 32).reshape(2, 16) % 32
        loss = model(batch, labels=batch).loss
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def test_training_learns_and_goes_on_where_it_stopped(tmp_path):
    model, optimizers = tiny()
    losses = steps(model, optimizers, 0, 12)
    assert losses[-1] < losses[0] - 0.5
    first, its = tiny()
    steps(first, its, 0, 6)
    _save(tmp_path, first, its, 6, 1.5)
    second, others = tiny()
    assert _load(tmp_path, second, others) == (6, 1.5)
    np.testing.assert_allclose(steps(second, others, 6, 12), losses[6:], rtol=1e-5)


def test_the_weights_that_ship_are_a_small_ordinary_checkpoint():
    folder = reference_folder()
    assert (folder / "model.safetensors").stat().st_size < 18e6
    config = json.loads((folder / "config.json").read_text())
    assert config["num_hidden_layers"] == 16 and config["max_position_embeddings"] >= 512
    card = (folder / "README.md").read_text()
    assert "license: apache-2.0" in card and "held-out" in card
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert model.dtype == torch.bfloat16 and 6e6 < model.num_parameters() < 9e6
    text = dict(stdlib_documents("verdict"))
    ids = torch.tensor([tokenizer(next(iter(text.values())))["input_ids"][:256]])
    with torch.no_grad():
        loss = model.float()(ids, labels=ids).loss.item()
    assert loss < math.log(config["vocab_size"]) - 2  # it has learnt something
