"""Every model that cannot be used is refused in one line that says what to do."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from coterie.errors import ModelError, UserError
from coterie.models.files import download as downloading
from coterie.models.files.sources import resolve
from coterie.models.files.tensors import read_header
from coterie.models.files.weights import INDEX
from coterie.models.loaded.load import (
    default_dtype,
    load_model,
    load_tokenizer,
    pick_device,
    pick_devices,
)
from coterie.testing.tiny import tiny_model


@pytest.fixture
def copy(folder, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(folder, tmp_path / "copy")


def refusal(model) -> str:
    with pytest.raises(ModelError) as raised:
        resolve(str(model))
    message = str(raised.value)
    assert "\n" not in message
    return message


def test_a_local_folder_is_known_by_its_bare_name_and_its_contents(source, folder, copy):
    assert (source.name, source.revision, source.folder) == ("small-llama", None, folder)
    assert source.fingerprint().startswith("sha256:")
    assert resolve(str(copy)).fingerprint() == source.fingerprint()
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 1e-3}))
    assert resolve(str(copy)).fingerprint() != source.fingerprint()


def test_missing_things(tmp_path, monkeypatch):
    assert "neither a folder here nor a Hub id" in refusal(tmp_path / "nowhere")
    assert "no config.json" in refusal(tmp_path)
    monkeypatch.setenv("COTERIE_REFERENCE", str(tmp_path / "gone"))
    assert "no folder 'gone'" in refusal("reference")


def test_other_kinds_of_weights(copy, tmp_path):
    for file in copy.glob("*.safetensors*"):
        file.unlink()
    assert "no .safetensors file" in refusal(copy)
    (copy / "pytorch_model.bin").write_bytes(b"")
    assert "pickles only" in refusal(copy)
    packed = tmp_path / "model-q4.gguf"
    packed.write_bytes(b"GGUF")
    assert "is a GGUF file" in refusal(packed)
    (copy / "config.json").unlink()
    (copy / "pytorch_model.bin").rename(copy / "model.gguf")
    assert "is a GGUF file" in refusal(copy)


def test_an_adapter_names_its_base_model(tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "some/base"}')
    save_file({"a": torch.zeros(1)}, tmp_path / "adapter_model.safetensors")
    message = refusal(tmp_path)
    assert "PEFT adapter" in message
    assert "some/base" in message


def test_a_truncated_or_corrupt_file_is_found_before_anything_is_computed(copy):
    file = sorted(copy.glob("*.safetensors"))[1]
    whole = file.read_bytes()
    file.write_bytes(whole[:-10])
    assert f"{file.name} should hold {len(whole)} bytes" in refusal(copy)
    file.write_bytes(whole[:4])
    assert "too few for a header" in refusal(copy)
    file.write_bytes(whole[:8] + b"?" + whole[9:])
    assert "header that cannot be read" in refusal(copy)
    file.write_bytes(b"\xff" * 100)
    assert "announces a header" in refusal(copy)
    file.unlink()
    assert f"lacks {file.name}" in refusal(copy)


def test_a_tensor_that_the_index_names_and_the_model_needs_must_be_there(copy):
    name = "model.layers.1.mlp.up_proj.weight"
    file = copy / json.loads((copy / INDEX).read_text())["weight_map"][name]
    save_file({k: v for k, v in load_file(file).items() if k != name}, file, {"format": "pt"})
    assert f"lacks the tensor {name}" in refusal(copy)


@pytest.mark.parametrize(
    ("model_type", "architecture", "complaint"),
    [
        ("bert", "BertForMaskedLM", "is a BertForMaskedLM"),
        ("t5", "T5ForConditionalGeneration", "not a decoder-only causal language model"),
        ("bart", "BartForConditionalGeneration", "not a decoder-only"),
        ("vit", "ViTModel", "is a ViTModel"),
        ("no-such-type", None, "cannot be used"),
    ],
)
def test_what_is_not_a_causal_language_model(copy, model_type, architecture, complaint):
    config = {"model_type": model_type, "architectures": [architecture]}
    (copy / "config.json").write_text(json.dumps(config))
    assert complaint in refusal(copy)


def test_code_of_its_own_is_not_run_unasked(copy):
    config = {"model_type": "own", "auto_map": {"AutoModelForCausalLM": "own.Own"}}
    (copy / "config.json").write_text(json.dumps(config))
    assert "--trust-remote-code" in refusal(copy)


def test_without_a_network_the_name_and_the_way_out_are_told():
    message = refusal("someone/some-model")
    assert "'someone/some-model'" in message
    assert "'reference'" in message


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        (["adapter_config.json", "adapter_model.safetensors"], "PEFT adapter"),
        (["model.gguf"], "GGUF files only"),
        (["pytorch_model.bin"], "pickles only"),
        (["README.md"], "no .safetensors file"),
    ],
)
def test_a_hub_model_of_another_kind_is_not_fetched(files, complaint, monkeypatch):
    monkeypatch.setattr(downloading, "_files_of", lambda model, revision: files)
    assert complaint in refusal("someone/some-model")


def test_what_the_hub_answers_is_explained():
    from importlib import import_module

    from huggingface_hub import errors

    http = import_module(errors.HTTPError.__module__.partition(".")[0])  # httpx or its successor
    response = http.Response(403, request=http.Request("GET", "https://hub"))
    answers = {
        errors.GatedRepoError: "is gated",
        errors.RevisionNotFoundError: "has no revision 'v2'",
        errors.RepositoryNotFoundError: "no Hub model",
    }
    for kind, complaint in answers.items():
        error = downloading._explained(kind("no", response=response), "some/model", "v2")
        assert complaint in str(error)


def test_the_loaded_model_is_the_saved_one(source, llama, tokens):
    model = load_model(source, dtype=torch.float32, device="cpu")
    with torch.no_grad():
        torch.testing.assert_close(model(tokens).logits, llama(tokens).logits, rtol=0, atol=0)
    assert not model.training
    half = load_model(source, dtype=torch.bfloat16, device="cpu")
    assert half.dtype == torch.bfloat16


def test_weights_that_leave_a_hole_are_refused(copy):
    index = json.loads((copy / INDEX).read_text())
    (copy / INDEX).unlink()
    name = "model.layers.1.mlp.up_proj.weight"
    file = copy / index["weight_map"][name]
    tensors = load_file(file)
    del tensors[name]
    save_file(tensors, file, metadata={"format": "pt"})
    del index["weight_map"][name]
    (copy / INDEX).write_text(json.dumps(index))
    with pytest.raises(ModelError, match=r"lacks 1 of its tensors, .*1\.mlp\.up"):
        load_model(resolve(str(copy)), dtype=None, device="cpu")


def test_a_missing_tokenizer_is_told(tmp_path):
    tiny_model("llama", 2).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="has no tokenizer that loads"):
        load_tokenizer(resolve(str(tmp_path)))


def test_devices_and_their_dtypes():
    assert pick_device("cpu") == torch.device("cpu")
    with pytest.raises(UserError, match="device 'gpu' is unknown"):
        pick_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="'cuda' is not on this machine"):
            pick_device("cuda")
    dtype, reason = default_dtype("cpu")
    assert dtype in (torch.float32, torch.bfloat16)
    assert "CPU" in reason


def test_a_header_says_where_every_byte_is(folder):
    file = sorted(folder.glob("*.safetensors"))[0]
    tensors = load_file(file)
    header = read_header(file)
    assert {entry.name for entry in header.entries} == set(tensors)
    content = file.read_bytes()
    for entry in header.entries:
        assert content[entry.start : entry.stop] == tensors[entry.name].numpy().tobytes()
        assert entry.n_values == tensors[entry.name].numel()


def test_several_devices_are_of_one_type_and_each_is_there_once(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    both = (torch.device("cuda:0"), torch.device("cuda:1"))
    assert pick_devices("cuda:all") == pick_devices("cuda:0, cuda:1") == both
    assert pick_devices("cpu") == (torch.device("cpu"),)
    assert pick_devices("cpu,cpu") == (torch.device("cpu"),) * 2  # to try it out without a GPU
    for asked, complaint in (
        ("cpu,cuda:0", "mixes cpu and cuda"),
        ("cuda,cuda:0", "names one twice"),
        ("cuda:0,cuda:2", "'cuda:2' is not on this machine"),
        ("cuda:0,gpu", "'gpu' is unknown"),
        ("cpu,", "'' is unknown"),
    ):
        with pytest.raises(UserError, match=complaint):
            pick_devices(asked)


def test_all_of_no_gpus_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UserError, match="is not on this machine"):
        pick_devices("cuda:all")
