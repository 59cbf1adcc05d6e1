"""llm-compressor runs in an environment of its own; a stand-in for it shows what crosses over."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.slow import slow
from tests.tiny import save_llama
from transformers import AutoModelForCausalLM

from coterie.cli import main
from coterie.errors import VerificationError
from coterie.quantization import llmcompressor_script as compressor_script
from coterie.quantization.environment import find_environment
from coterie.quantization.schemes import INTERPRETER, SchemeError
from coterie.verbs.after_cut.quantize import quantize
from coterie.verbs.after_cut.quantize_request import QuantizeRequest
from coterie.verbs.prune.after import After
from coterie.verbs.prune.request import PruneRequest

LLMCOMPRESSOR = """
import os

import torch


def oneshot(*, model, processor, dataset, recipe):
    (modifier,) = recipe
    assert all(batch["input_ids"].shape[1] == 64 for batch in dataset)
    if os.environ.get("STANDIN") == "refuses":
        raise ValueError("no such layer")
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and name not in modifier["ignore"]:
            module.weight.data = torch.round(8 * module.weight.data) / 8
    save = model.save_pretrained

    def save_pretrained(folder, save_compressed):
        assert save_compressed
        if os.environ.get("STANDIN") == "lies":
            model.lm_head.weight.data *= 2
        save(folder)

    model.save_pretrained = save_pretrained
"""
STUBS = {
    "llmcompressor/__init__.py": LLMCOMPRESSOR,
    "llmcompressor/modifiers/__init__.py": "",
    "llmcompressor/modifiers/gptq.py": "GPTQModifier = dict\n",
    "compressed_tensors/__init__.py": "",
    "compressed_tensors/quantization.py": "QuantizationArgs = QuantizationScheme = dict\n",
    "llmcompressor-9.9.dist-info/METADATA": "Name: llmcompressor\nVersion: 9.9\n",
    "compressed_tensors-8.8.dist-info/METADATA": "Name: compressed-tensors\nVersion: 8.8\n",
}


@pytest.fixture(scope="session")
def environment(tmp_path_factory) -> Path:
    """A Python that has a stand-in for llm-compressor, which rounds weights to eighths."""
    place = tmp_path_factory.mktemp("environment")
    for name, text in STUBS.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    python = place / "python"
    # It takes off -I, which would hide the stand-in.
    python.write_text(f'#!/bin/sh\nshift\nPYTHONPATH="{place}" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return python


def asked(cut, text, environment):
    return QuantizeRequest(
        str(cut),
        scheme="gptq",
        calibration=str(text),
        device="cpu",
        text=str(text),
        environment=str(environment),
    )


def test_the_other_environment_quantizes_and_reads_back(cut, text, environment, tmp_path):
    request = asked(cut, text, environment)
    done = quantize(request, output=tmp_path / "out")
    part = done.part.as_json()
    assert part["reloaded"]["max_logit_difference"] == 0
    assert part["versions"]["llmcompressor"] == "9.9"
    assert part["group"] == 32  # 32 divides the widths 32 and 64, 64 does not
    assert part["text"]["sha256"] != part["held_out"]["sha256"]
    assert part["difference"]["nll"] == pytest.approx(part["after"]["nll"] - part["before"]["nll"])
    made, plain = (AutoModelForCausalLM.from_pretrained(one) for one in (tmp_path / "out", cut))
    for name, weight in plain.named_parameters():
        rounded = "proj" in name
        expected = torch.round(8 * weight) / 8 if rounded else weight
        assert torch.equal(made.get_parameter(name), expected), name
    assert "9.9" in (tmp_path / "out" / "coterie.json").read_text()
    assert str(tmp_path) not in (tmp_path / "out" / "coterie.json").read_text()
    assert "scales for 32 inputs each" in (tmp_path / "out" / "README.md").read_text()
    assert quantize(request, output=tmp_path / "out").part.as_json() == part  # reported again


@pytest.mark.parametrize(
    ("conduct", "error", "said"),
    [("lies", VerificationError, "logits differ"), slow("refuses", SchemeError, "no such layer")],
)
def test_what_goes_wrong_there_leaves_nothing_here(
    conduct, error, said, cut, text, environment, tmp_path, monkeypatch
):
    monkeypatch.setenv("STANDIN", conduct)
    with pytest.raises(error, match=said) as raised:
        quantize(asked(cut, text, environment), output=tmp_path / "out")
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_an_environment_that_will_not_do_says_how_to_make_one(tmp_path, monkeypatch, environment):
    monkeypatch.delenv(INTERPRETER, raising=False)
    with pytest.raises(SchemeError, match="pip install llmcompressor, then --environment"):
        find_environment(None, "gptq")
    with pytest.raises(SchemeError, match="no program that runs"):
        find_environment(str(tmp_path / "python"), "gptq")
    bare = tmp_path / "bare"
    bare.write_text("#!/bin/sh\nexit 1\n")
    bare.chmod(0o755)
    with pytest.raises(SchemeError, match="-m pip install llmcompressor"):
        find_environment(str(bare), "gptq")
    monkeypatch.setenv(INTERPRETER, str(environment))
    assert find_environment(None, "gptq").version == "9.9"


def test_options_of_llm_compressor_are_refused_elsewhere(cut, text, environment, tmp_path):
    pytest.importorskip("torchao", reason="torchao is not installed")
    wrong = replace(asked(cut, text, environment), scheme="int8")
    with pytest.raises(SchemeError, match="--text is for gptq and awq"):
        quantize(wrong, output=tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_game_is_not_played_on_what_only_the_other_environment_loads(environment, monkeypatch):
    monkeypatch.setenv(INTERPRETER, str(environment))
    After("gptq").check(PruneRequest("reference", remove=1, device="cpu"))
    with pytest.raises(SchemeError, match="after the cut"):
        After("gptq", quantize_first=True).check(PruneRequest("reference", remove=1, device="cpu"))


def test_one_line_and_exit_code_two(cut, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv(INTERPRETER, raising=False)
    output = tmp_path / "out"
    assert main(["quantize", str(cut), "--scheme", "awq", "--output", str(output)]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("coterie: --scheme awq") and "ENV/bin/pip install llmcompressor" in line
    assert not list(tmp_path.iterdir())


def test_scales_are_shared_by_what_divides_every_width(tmp_path):
    model = AutoModelForCausalLM.from_pretrained(save_llama(tmp_path / "m", n_layers=1))
    taken, left = compressor_script.linear_names(model)
    assert left == ["lm_head"] and len(taken) == 7
    assert compressor_script.group_size(model, taken) == 32
    assert compressor_script.group_size(model, taken[-1:]) == 64
    model.get_submodule(taken[0]).in_features = 33
    assert compressor_script.group_size(model, taken) is None
