"""Files that are damaged, or do not fit together, are one line with the file and the way out."""

import json
import random
import shutil
import struct

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from coterie.errors import ModelError, UserError
from coterie.models.cutting.write import write_cut
from coterie.models.files.sources import resolve
from coterie.models.files.tensors import read_header
from coterie.models.files.weights import INDEX, SINGLE
from coterie.models.loaded.load import load_model
from coterie.testing.tiny import tiny_model


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ready") / "model"
    tiny_model("llama", 2).save_pretrained(folder)
    return folder


@pytest.fixture
def copy(ready, tmp_path):
    return shutil.copytree(ready, tmp_path / "model")


def refusal(folder) -> str:
    with pytest.raises(ModelError) as refused:
        load_model(resolve(str(folder)), dtype=None, device="cpu")
    assert "\n" not in str(refused.value)
    return str(refused.value)


BROKEN = [
    (b"\xef\xbb\xbf{}", "byte-order mark"),
    (b"", "is empty"),
    (b"  \n", "is empty"),
    (b"<<<<<<< HEAD\n{}", "unfinished merge"),
    (b'{"a": 1,\n<<<<<<< HEAD\n', "unfinished merge"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "git lfs pull"),
    (b"[]", "holds a list"),
    (b"null", "holds null"),
    (b"3", "holds a number"),
    (b'"x"', "holds a text"),
    (b'{"a": 1', "line 1, column"),
    (b"\xff\xfe{\x00}\x00", "not UTF-8"),
    (b"[" * 200_000, "nested too deep"),
]


@pytest.mark.parametrize(("content", "complaint"), BROKEN)
@pytest.mark.parametrize("name", ["config.json", INDEX, "adapter_config.json"])
def test_json_that_cannot_be_read(content, complaint, name, copy):
    if name == INDEX:
        (copy / SINGLE).unlink()
    (copy / name).write_bytes(content)
    message = refusal(copy)
    assert name in message
    assert complaint in message


@pytest.mark.parametrize(
    "fields",
    [
        *[{}, {"metadata": {}}, {"weight_map": {}}, {"weight_map": [], "metadata": {}}],
        *[{"weight_map": {}, "metadata": {}}, {"weight_map": {"a": 3}, "metadata": {}}],
        *[{"weight_map": {"a": None}, "metadata": {}}, {"weight_map": {"a": "b"}, "metadata": {}}],
    ],
)
def test_an_index_without_its_tables(fields, copy):
    (copy / SINGLE).unlink()
    (copy / INDEX).write_text(json.dumps(fields))
    assert INDEX in refusal(copy)


@pytest.mark.parametrize(
    "fields",
    [
        *[{"model_type": None}, {"model_type": []}, {"model_type": 3}, {"model_type": {"a": 1}}],
        *[{"architectures": "Llama"}, {"architectures": [3]}, {"architectures": {}}],
        *[{"auto_map": []}, {"auto_map": "x"}, {"quantization_config": "x"}, {"rope_scaling": 3}],
        *[{"num_hidden_layers": "6"}, {"num_hidden_layers": None}, {"num_hidden_layers": -1}],
        *[{"num_attention_heads": 0}, {"hidden_size": 1.5}, {"vocab_size": -1}, {"dtype": "x"}],
        *[{"transformers_weights": 3}, {"transformers_weights": "a.bin"}, {"head_dim": 0}],
    ],
)
def test_fields_of_another_kind_end_in_one_line_or_do_not_matter(fields, copy):
    raw = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(raw | fields))
    message = ""
    try:
        source = resolve(str(copy))
        load_model(source, dtype=None, device="cpu")
        write_cut(source, [0], copy.parent / "cut")
    except UserError as error:
        message = str(error)
    assert "\n" not in message


def change_header(file, change):
    content = file.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    text = json.dumps(change(header) or header).encode()
    text += b" " * (-len(text) % 8)
    file.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


NAME = "model.layers.1.mlp.up_proj.weight"


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header[NAME].update(shape=[1, 1]),
        lambda header: header[NAME].update(dtype="F99"),
        lambda header: header[NAME].update(shape="x"),
        lambda header: header[NAME].update(data_offsets=[0, 8]),
        lambda header: header[NAME].update(data_offsets=[8, 0]),
        lambda header: header[NAME].update(data_offsets=[-8, 8]),
        lambda header: header[NAME].pop("dtype"),
        lambda header: header["__metadata__"].update(epoch=3),
        lambda header: header.update(__metadata__=[1]),
        lambda header: header.pop(NAME) and None,  # a hole
        lambda header: [header],
    ],
)
def test_a_header_that_the_library_refuses(change, copy):
    change_header(copy / SINGLE, change)
    message = refusal(copy)
    assert SINGLE in message
    assert "download it again" in message


def test_a_header_with_any_byte_changed_is_read_or_refused_as_the_library_does(copy):
    file, rng = copy / SINGLE, random.Random(0)
    whole = file.read_bytes()
    length = struct.unpack("<Q", whole[:8])[0]
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(rng.choice((1, 1, 3))):
            content[rng.randrange(8 + length)] = rng.randrange(256)
        file.write_bytes(content[: rng.choice((len(whole), len(whole), rng.randrange(len(whole))))])
        try:
            names = {entry.name for entry in read_header(file).entries}
        except ModelError:
            continue
        with safe_open(file, framework="pt") as theirs:
            assert names == set(theirs.keys())


def test_a_pointer_where_the_weights_should_be(copy):
    (copy / SINGLE).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9")
    assert "git lfs pull" in refusal(copy)


def renamed(folder, change):
    tensors = {change(name): tensor for name, tensor in load_file(folder / SINGLE).items()}
    save_file(tensors, folder / SINGLE, {"format": "pt"})


def edit(folder, **fields):
    raw = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(raw | fields))


def narrow(folder):
    edit(folder, intermediate_size=60)


def wrapped(prefix):
    return lambda folder: renamed(folder, lambda name: prefix + name)


def lora(folder):
    renamed(folder, lambda name: name.replace("q_proj.weight", "q_proj.base_layer.weight"))


def untied(folder):
    tensors = load_file(folder / SINGLE)
    tensors.pop("lm_head.weight", None)
    save_file(tensors, folder / SINGLE, {"format": "pt"})
    edit(folder, tie_word_embeddings=False)


def packed(folder):
    tensors = load_file(folder / SINGLE)
    for name in [name for name in tensors if "mlp" in name]:
        tensors[name.replace("weight", "qweight")] = tensors.pop(name)[:8].to(torch.int32)
    save_file(tensors, folder / SINGLE, {"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (narrow, r"is \[\d+, \d+\] on disk and \[\d+, \d+\] by config.json"),
        (wrapped("module."), "a part 'module'"),
        (wrapped("_orig_mod."), "a part '_orig_mod'"),
        (wrapped("base_model.model."), "merge_and_unload"),
        (lora, "merge_and_unload"),
        (untied, '"tie_word_embeddings": true'),
        (packed, "quantization_config"),
    ],
    ids=["narrow", "module", "compiled", "peft", "lora", "untied", "packed"],
)
def test_weights_that_do_not_fit_say_why(damage, complaint, copy):
    damage(copy)
    with pytest.raises(ModelError, match=complaint) as refused:
        load_model(resolve(str(copy)), dtype=None, device="cpu")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "table",
    [
        {"quant_method": "bitsandbytes", "load_in_4bit": True},
        {"load_in_8bit": True},
        {"quant_method": "gptq", "bits": 4, "group_size": 128},
        {"quant_method": "awq", "bits": 4},
        {"quant_method": "fp8", "weight_block_size": [128, 128]},
        {"quant_method": "mxfp4"},
        {"quant_method": "compressed-tensors", "format": "pack-quantized"},
    ],
)
def test_a_quantization_that_the_weights_no_longer_have(table, copy):
    edit(copy, quantization_config=table)
    message = refusal(copy)
    assert "every tensor on disk is plain" in message
    assert "take quantization_config out" in message


def test_a_quantization_config_of_null_is_none(copy):
    edit(copy, quantization_config=None)
    assert load_model(resolve(str(copy)), dtype=None, device="cpu")


def test_what_bears_the_name_of_the_weights_and_is_no_file(copy):
    (copy / SINGLE).unlink()
    (copy / SINGLE).symlink_to(copy / "d1ge57")
    assert "is a link to d1ge57, which is not there" in refusal(copy)
    (copy / SINGLE).unlink()
    (copy / SINGLE).mkdir()
    assert "is a folder, not a file" in refusal(copy)


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("num_hidden_layers", "2", "Field 'num_hidden_layers' expected int"),
        ("hidden_act", "none", "KeyError: none"),
        ("model_type", "bert", "is a LlamaForCausalLM of model type 'bert', not a decoder-only"),
        ("is_encoder_decoder", True, "with is_encoder_decoder = true, not a decoder-only"),
    ],
)
def test_a_field_that_is_refused_is_told_with_the_reason(field, value, complaint, copy):
    raw = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(raw | {field: value}))
    assert complaint in refusal(copy)
