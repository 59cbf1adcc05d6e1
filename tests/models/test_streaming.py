"""A cut checkpoint is the source's bytes under new names, with all a user needs beside it."""

import json
import resource
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from coterie.errors import CutError, ModelError
from coterie.models.cutting.verify import expect, verify
from coterie.models.cutting.write import write_cut
from coterie.models.files.sources import resolve
from coterie.models.files.weights import INDEX
from coterie.models.loaded.stack import find_stack
from coterie.testing.tiny import tiny_model

KEPT = [0, 2, 3, 5]


def in_one_file(folder, target, more=None, without="nothing"):
    """A copy of a checkpoint as one file, with more tensors, and without those of some name."""
    shutil.copytree(folder, target, ignore=shutil.ignore_patterns("*.safetensors*"))
    kept = {name: t for name, t in tensors_of(folder).items() if without not in name}
    save_file(kept | (more or {}), target / "model.safetensors", metadata={"format": "pt"})
    return target


def tensors_of(folder):
    tensors = {}
    for file in folder.glob("*.safetensors"):
        tensors |= load_file(file)
    return tensors


def test_kept_tensors_are_the_source_bytes_renumbered(source, tmp_path):
    written = write_cut(source, KEPT, tmp_path)
    old, new = tensors_of(source.folder), tensors_of(tmp_path)
    for name, tensor in new.items():
        parts = name.split(".")
        if "layers" in parts:
            parts[2] = str(KEPT[int(parts[2])])
        assert torch.equal(tensor, old[".".join(parts)])
    assert len(new) == 3 + 4 * 9
    assert written.n_bytes == sum(tensor.nbytes for tensor in new.values())
    assert written.n_parameters == sum(tensor.numel() for tensor in new.values())


def test_everything_a_checkpoint_has_is_carried(source, tmp_path):
    written = write_cut(source, KEPT, tmp_path)
    assert set(written.carried) == {
        "LICENSE",
        "chat_template.jinja",
        "generation_config.json",
        "tokenizer.json",
    }
    assert (tmp_path / "LICENSE").read_text() == "as you like"
    old = json.loads((source.folder / "config.json").read_text())
    new = json.loads((tmp_path / "config.json").read_text())
    # Older readers look for the rotary base at the top alone, and would silently take another.
    assert new.pop("rope_theta") == old["rope_parameters"]["rope_theta"]
    assert new == old | {"num_hidden_layers": 4}
    theta = old["rope_parameters"]["rope_theta"]
    assert written.config_changes == {"num_hidden_layers": 4, "rope_theta": theta}


def test_shards_are_as_large_as_asked_and_indexed(source, tmp_path):
    seen = []
    written = write_cut(
        source, KEPT, tmp_path, max_shard_bytes=50_000, progress=lambda *now: seen.append(now)
    )
    index = json.loads((tmp_path / INDEX).read_text())
    assert len(written.files) > 1
    assert index["metadata"]["total_size"] == written.n_bytes
    for name in written.files:
        with safe_open(tmp_path / name, framework="pt") as file:
            assert file.metadata() == {"format": "pt"}
            assert set(file.keys()) == {k for k, v in index["weight_map"].items() if v == name}
    assert seen[-1] == (written.n_bytes, written.n_bytes)
    assert resolve(str(tmp_path)).fingerprint()  # a whole checkpoint again


def test_the_dtype_on_disk_stays(tmp_path):
    tiny_model("llama", 4).to(torch.bfloat16).save_pretrained(tmp_path / "whole")
    write_cut(resolve(str(tmp_path / "whole")), [0, 3], tmp_path / "cut")
    assert {t.dtype for t in tensors_of(tmp_path / "cut").values()} == {torch.bfloat16}


def test_tied_weights_stay_tied(tmp_path):
    model = tiny_model("gpt2", 4)
    assert model.config.tie_word_embeddings
    model.save_pretrained(tmp_path / "whole")
    write_cut(resolve(str(tmp_path / "whole")), [1, 2], tmp_path / "cut")
    assert "lm_head.weight" not in tensors_of(tmp_path / "cut")


@pytest.mark.parametrize("prefix", ["h.", "transformer.h."])
def test_names_on_disk_may_lack_the_base_prefix(prefix, tmp_path):
    tiny_model("gpt2", 4).save_pretrained(tmp_path / "whole")
    file = tmp_path / "whole" / "model.safetensors"
    renamed = {
        name.removeprefix("transformer.").replace("h.", prefix, 1): tensor
        for name, tensor in load_file(file).items()
    }
    save_file(renamed, file, metadata={"format": "pt"})
    write_cut(resolve(str(tmp_path / "whole")), [1, 3], tmp_path / "cut")
    layers = {name for name in tensors_of(tmp_path / "cut") if name.startswith(prefix)}
    assert {name.removeprefix(prefix)[0] for name in layers} == {"0", "1"}


def test_layers_that_predict_further_tokens_follow_the_decoder(folder, tmp_path):
    extra = {f"model.layers.{i}.eh_proj.weight": torch.ones(2, 2) for i in (6, 7)}
    whole = in_one_file(folder, tmp_path / "whole", extra)
    config = json.loads((whole / "config.json").read_text())
    (whole / "config.json").write_text(json.dumps(config | {"num_nextn_predict_layers": 1}))
    write_cut(resolve(str(whole)), KEPT, tmp_path / "cut")
    assert "model.layers.4.eh_proj.weight" in tensors_of(tmp_path / "cut")
    assert not [name for name in tensors_of(tmp_path / "cut") if "layers.5" in name]  # undeclared


def test_metadata_that_names_tensors_is_renamed(folder, tmp_path):
    """As torchao stores it: the names of its tensors, and how each was packed, as JSON."""
    whole = shutil.copytree(folder, tmp_path / "whole")
    names = ["model.layers.1.mlp.up_proj.weight", "model.layers.3.mlp.up_proj.weight"]
    packed = {"tensor_names": json.dumps(names), names[0]: "{}", names[1]: '{"_type": "x"}'}
    file = sorted(whole.glob("*.safetensors"))[0]
    save_file(load_file(file), file, metadata={"format": "pt", **packed})
    write_cut(resolve(str(whole)), KEPT, tmp_path / "cut")
    with safe_open(tmp_path / "cut" / "model.safetensors", framework="pt") as cut:
        assert cut.metadata() == {
            "format": "pt",
            "tensor_names": json.dumps(["model.layers.2.mlp.up_proj.weight"]),
            "model.layers.2.mlp.up_proj.weight": '{"_type": "x"}',
        }


def test_layer_numbers_inside_the_quantization_config_follow(folder, tmp_path):
    whole = shutil.copytree(folder, tmp_path / "whole")
    config = json.loads((whole / "config.json").read_text())
    config["quantization_config"] = {
        "quant_method": "compressed-tensors",
        "ignore": ["lm_head", "model.layers.1.mlp.up_proj", "model.layers.5.mlp.up_proj"],
    }
    (whole / "config.json").write_text(json.dumps(config))
    write_cut(resolve(str(whole)), KEPT, tmp_path / "cut")
    cut = json.loads((tmp_path / "cut" / "config.json").read_text())
    assert cut["quantization_config"]["ignore"] == ["lm_head", "model.layers.3.mlp.up_proj"]


def test_nothing_is_written_when_the_cut_cannot_be_made(source, tmp_path):
    for kept, complaint in ([], "would be left"), ([0, 9], "no layer 9"), ([1, 1], "named twice"):
        with pytest.raises(CutError, match=complaint):
            write_cut(source, kept, tmp_path / "cut")
    tiny_model("rwkv", 4).save_pretrained(tmp_path / "rwkv")
    with pytest.raises(CutError, match="layer 0 is locked: it holds the norm of the embeddings"):
        write_cut(resolve(str(tmp_path / "rwkv")), [1, 2], tmp_path / "cut")
    assert not (tmp_path / "cut").exists()


def test_a_stack_that_the_names_do_not_show_is_refused(folder, tmp_path):
    whole = in_one_file(folder, tmp_path / "whole", without="layers.4")
    with pytest.raises(ModelError, match=r"the numbered names are model\.layers \(5\)"):
        write_cut(resolve(str(whole)), KEPT, tmp_path / "cut")


def test_writing_takes_little_memory(tmp_path):
    """Bytes are copied in pieces: a file of 160 MB passes through a few tens of MB."""
    whole = tmp_path / "whole"
    tiny_model("llama", 4).save_pretrained(whole)
    tensors = load_file(whole / "model.safetensors")
    ballast = {f"model.layers.{i}.ballast": torch.zeros(10_000_000) for i in range(4)}
    save_file(tensors | ballast, whole / "model.safetensors", metadata={"format": "pt"})
    del ballast, tensors
    source = resolve(str(whole))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    write_cut(source, [0, 1, 3], tmp_path / "cut")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # kB on Linux
    assert grown < 100_000


class RegisteredConfig(LlamaConfig):
    model_type = "registered-elsewhere"


class RegisteredForCausalLM(LlamaForCausalLM):
    config_class = RegisteredConfig


def test_a_type_that_another_library_registered_is_cut(tmp_path, tokens):
    """As flash-linear-attention registers RWKV-7: no code beside the weights, none of ours."""
    AutoConfig.register(RegisteredConfig.model_type, RegisteredConfig)
    AutoModelForCausalLM.register(RegisteredConfig, RegisteredForCausalLM)
    fields = tiny_model("llama", 4).config.to_dict() | {"model_type": RegisteredConfig.model_type}
    model = RegisteredForCausalLM(RegisteredConfig(**fields)).eval()
    model.save_pretrained(tmp_path / "whole")
    write_cut(resolve(str(tmp_path / "whole")), [0, 3], tmp_path / "cut")
    expected = expect(model, find_stack(model), [True, False, False, True], tokens)
    found = verify(expected, tmp_path / "cut")
    assert found.max_logit_difference == 0


def test_python_files_of_a_model_stay_beside_it(folder, tmp_path):
    whole = shutil.copytree(folder, tmp_path / "whole")
    (whole / "modeling_own.py").write_text("# its own code")
    config = json.loads((whole / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "modeling_own.Own"}
    (whole / "config.json").write_text(json.dumps(config))
    written = write_cut(resolve(str(whole)), KEPT, tmp_path / "cut")
    assert "modeling_own.py" in written.carried
    assert (tmp_path / "cut" / "modeling_own.py").read_text() == "# its own code"
