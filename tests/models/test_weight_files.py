"""The files that are read are those that transformers loads, whatever else lies beside them."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from coterie.errors import ModelError
from coterie.models.cutting.write import write_cut
from coterie.models.files.sources import resolve
from coterie.models.files.tensors import read_tensor
from coterie.models.files.weights import INDEX, SINGLE
from coterie.testing.tiny import tiny_model

BIN_INDEX = "pytorch_model.bin.index.json"


@pytest.fixture(scope="module")
def ready(tmp_path_factory) -> Path:
    """One model as one file and as several, and another of its shape, to be mistaken for it."""
    folder = tmp_path_factory.mktemp("ready")
    for name, seed, size in (("one", 0, "5GB"), ("several", 0, "20KB"), ("other", 1, "20KB")):
        tiny_model("llama", 2, seed=seed).save_pretrained(folder / name, max_shard_size=size)
    return folder


def one(ready, folder):
    shutil.copytree(ready / "one", folder)


def several(ready, folder):
    shutil.copytree(ready / "several", folder)


def stale_shards_beside_one(ready, folder):
    shutil.copytree(ready / "other", folder)
    shutil.copy(ready / "one" / SINGLE, folder)


def leftover_index_beside_one(ready, folder):
    one(ready, folder)
    table = {
        "metadata": {},
        "weight_map": {"model.norm.weight": "model-00001-of-00030.safetensors"},
    }
    (folder / INDEX).write_text(json.dumps(table))


def broken_index_beside_one(ready, folder):
    one(ready, folder)
    (folder / INDEX).write_text("no JSON")


def pickles_beside_one(ready, folder):
    one(ready, folder)
    torch.save(tiny_model("llama", 2, seed=1).state_dict(), folder / "pytorch_model.bin")
    (folder / BIN_INDEX).write_text('{"metadata": {}, "weight_map": {}}')


def legacy_index_alone(ready, folder):
    several(ready, folder)
    (folder / INDEX).rename(folder / BIN_INDEX)


def variants_beside_one(ready, folder):
    one(ready, folder)
    for name in ("model.fp16.safetensors", "consolidated.safetensors", "a.safetensors"):
        save_file(tiny_model("llama", 2, seed=1).state_dict(), folder / name, {"format": "pt"})


def variant_alone(ready, folder):
    one(ready, folder)
    (folder / SINGLE).rename(folder / "model.fp16.safetensors")


def shards_without_index(ready, folder):
    several(ready, folder)
    (folder / INDEX).unlink()


def shards_in_a_subfolder(ready, folder):
    several(ready, folder)
    (folder / "parts").mkdir()
    for file in folder.glob("*.safetensors"):
        file.rename(folder / "parts" / file.name)
    change_index(folder, lambda table: {name: f"parts/{file}" for name, file in table.items()})


def links_of_a_cache(ready, folder):
    blobs = folder.parent / "blobs"
    shutil.copytree(ready / "several", blobs)
    folder.mkdir()
    for file in blobs.iterdir():
        (folder / file.name).symlink_to(file)


def broken_link_beside_index(ready, folder):
    several(ready, folder)
    (folder / SINGLE).symlink_to(folder / "gone")


def file_named_in_the_config(ready, folder):
    stale_shards_beside_one(ready, folder)
    shutil.copy(folder / SINGLE, folder / "chosen.safetensors")
    save_file(tiny_model("llama", 2, seed=1).state_dict(), folder / SINGLE, {"format": "pt"})
    name_in_config(folder, "chosen.safetensors")


def index_named_in_the_config(ready, folder):
    several(ready, folder)
    (folder / INDEX).rename(folder / "mine.safetensors.index.json")
    name_in_config(folder, "mine.safetensors.index.json")


def file_outside_named_in_the_config(ready, folder):
    one(ready, folder)
    name_in_config(folder, "../one/model.safetensors")


def index_names_too_much(ready, folder):
    several(ready, folder)
    first = sorted(folder.glob("*.safetensors"))[0].name
    change_index(folder, lambda table: table | {"model.ghost.weight": first})


def index_names_too_little(ready, folder):
    several(ready, folder)
    change_index(
        folder, lambda table: {name: f for f, name in {f: n for n, f in table.items()}.items()}
    )


def index_names_a_missing_file(ready, folder):
    several(ready, folder)
    sorted(folder.glob("*.safetensors"))[1].unlink()


def index_without_metadata(ready, folder):
    several(ready, folder)
    (folder / INDEX).write_text(
        json.dumps({"weight_map": json.loads((folder / INDEX).read_text())["weight_map"]})
    )


def one_tensor_in_two_files(ready, folder):
    several(ready, folder)
    last = sorted(folder.glob("*.safetensors"))[-1]
    more = {"model.embed_tokens.weight": torch.ones(128, 32)}
    save_file(load_file(last) | more, last, {"format": "pt"})


def adapter_weights_beside_one(ready, folder):
    one(ready, folder)
    save_file({"a": torch.ones(1)}, folder / "adapter_model.safetensors")


def pickles_alone(ready, folder):
    pickles_beside_one(ready, folder)
    (folder / SINGLE).unlink()


def model_in_a_subfolder(ready, folder):
    folder.mkdir()
    shutil.copytree(ready / "one", folder / "inner")


def change_index(folder, change):
    index = json.loads((folder / INDEX).read_text())
    (folder / INDEX).write_text(json.dumps(index | {"weight_map": change(index["weight_map"])}))


def name_in_config(folder, name):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"transformers_weights": name}))


LOADED = (
    *(one, several, stale_shards_beside_one, leftover_index_beside_one, broken_index_beside_one),
    *(pickles_beside_one, variants_beside_one, shards_in_a_subfolder, links_of_a_cache),
    *(broken_link_beside_index, file_named_in_the_config, index_named_in_the_config),
    *(index_names_too_much, index_names_too_little, one_tensor_in_two_files),
    adapter_weights_beside_one,
)
REFUSED = (
    *(legacy_index_alone, variant_alone, shards_without_index, file_outside_named_in_the_config),
    *(index_names_a_missing_file, index_without_metadata, pickles_alone, model_in_a_subfolder),
)


def transformers_reads(folder):
    model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True)
    return model.state_dict()


@pytest.mark.parametrize("layout", LOADED, ids=lambda layout: layout.__name__)
def test_every_tensor_is_the_one_that_transformers_loads(layout, ready, tmp_path):
    layout(ready, tmp_path / "model")
    theirs = transformers_reads(tmp_path / "model")
    source = resolve(str(tmp_path / "model"))
    ours = {entry.name: read_tensor(entry) for entry in source.entries}
    assert len(ours) == len(source.entries)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
    write_cut(source, [1], tmp_path / "cut")
    cut = transformers_reads(tmp_path / "cut")
    for name, tensor in cut.items():
        assert torch.equal(tensor, theirs[name.replace("layers.0", "layers.1")])


@pytest.mark.parametrize("layout", REFUSED, ids=lambda layout: layout.__name__)
def test_what_transformers_does_not_load_is_refused_in_one_line(layout, ready, tmp_path):
    layout(ready, tmp_path / "model")
    with pytest.raises(Exception):  # noqa: B017  whatever transformers raises
        transformers_reads(tmp_path / "model")
    with pytest.raises(ModelError) as refused:
        resolve(str(tmp_path / "model"))
    assert "\n" not in str(refused.value)
    assert "model'" in str(refused.value)


@pytest.mark.parametrize("name", ["../far.safetensors", "/far.safetensors", "a.bin", 3])
def test_an_index_that_leads_elsewhere_is_refused(name, ready, tmp_path):
    several(ready, tmp_path / "model")
    change_index(tmp_path / "model", lambda table: table | {"model.norm.weight": name})
    with pytest.raises(ModelError, match=r"outside of the folder|no safetensors file|must name"):
        resolve(str(tmp_path / "model"))


@pytest.mark.parametrize("weights", [True, False])
def test_an_adapter_beside_a_model_is_refused_at_once(weights, ready, tmp_path):
    """With peft transformers applies it, without peft it does not: no result would be certain."""
    one(ready, tmp_path / "model")
    (tmp_path / "model" / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    if weights:
        save_file({"a": torch.ones(1)}, tmp_path / "model" / "adapter_model.safetensors")
    with pytest.raises(ModelError, match=r"merge_and_unload.*move the adapter"):
        resolve(str(tmp_path / "model"))


def test_an_index_may_name_the_head_that_is_the_embedding(tmp_path):
    folder = tmp_path / "tied"
    tiny_model("gpt2", 2).save_pretrained(folder, max_shard_size="20KB")
    first = sorted(folder.glob("*.safetensors"))[0].name
    change_index(folder, lambda table: table | {"lm_head.weight": first})
    assert resolve(str(folder)).entries


def test_another_save_is_another_model(ready, tmp_path):
    """The fingerprint is of the file that is loaded, not of what an old index names."""
    stale_shards_beside_one(ready, tmp_path / "model")
    before = resolve(str(tmp_path / "model")).fingerprint()
    save_file(tiny_model("llama", 2, seed=2).state_dict(), tmp_path / "model" / SINGLE)
    assert resolve(str(tmp_path / "model")).fingerprint() != before
