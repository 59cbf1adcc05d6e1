"""Quantized checkpoints are cut like any other: their packed tensors are renamed as they are."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM

from coterie.models.cutting.verify import expect, verify
from coterie.models.cutting.write import write_cut
from coterie.models.files.sources import resolve
from coterie.models.loaded.stack import find_stack

KEPT = [0, 2, 3, 5]


def torchao():
    pytest.importorskip("torchao", reason="torchao is not installed")
    from torchao.quantization import Int8WeightOnlyConfig
    from transformers import TorchAoConfig

    left_out = ["lm_head", "model.layers.3.mlp.up_proj"]
    return TorchAoConfig(Int8WeightOnlyConfig(), modules_to_not_convert=left_out)


def bitsandbytes(**kind):
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(**kind)


@pytest.mark.parametrize(
    "quantization",
    [
        pytest.param(torchao, id="torchao int8"),
        pytest.param(lambda: bitsandbytes(load_in_8bit=True), id="bitsandbytes int8"),
        pytest.param(
            lambda: bitsandbytes(load_in_4bit=True, bnb_4bit_quant_type="nf4"),
            id="bitsandbytes nf4",
        ),
    ],
)
def test_a_quantized_checkpoint_is_what_was_masked(quantization, folder, tokens, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    packed = AutoModelForCausalLM.from_pretrained(folder, quantization_config=quantization())
    packed.save_pretrained(whole)
    write_cut(resolve(str(whole)), KEPT, cut)
    model = AutoModelForCausalLM.from_pretrained(whole).eval()
    coalition = [player in KEPT for player in range(6)]
    found = verify(expect(model, find_stack(model), coalition, tokens), cut)
    assert found.max_logit_difference == 0


def test_numbers_are_carried_byte_by_byte_whatever_they_mean(folder, tmp_path):
    """Eight-bit floats and packed fours, such as gpt-oss's MXFP4, need no torch to be renamed."""
    import shutil

    from safetensors.torch import load_file, save_file

    whole = shutil.copytree(folder, tmp_path / "whole")
    file = sorted(whole.glob("*.safetensors"))[-1]
    extra = {
        "model.layers.5.mlp.experts.gate_up_proj_blocks": torch.arange(8, dtype=torch.uint8),
        "model.layers.5.mlp.up_proj.weight_scale_inv": torch.ones(4).to(torch.float8_e4m3fn),
        "model.layers.1.mlp.experts.gate_up_proj_scales": torch.zeros(8, dtype=torch.uint8),
    }
    save_file(load_file(file) | extra, file, metadata={"format": "pt"})
    index = json.loads((whole / "model.safetensors.index.json").read_text())
    index["weight_map"] |= dict.fromkeys(extra, file.name)
    (whole / "model.safetensors.index.json").write_text(json.dumps(index))
    write_cut(resolve(str(whole)), KEPT, tmp_path / "cut")
    cut = load_file(tmp_path / "cut" / "model.safetensors")
    names = [name for name in cut if "experts" in name or "scale_inv" in name]
    assert set(names) == {
        "model.layers.3.mlp.experts.gate_up_proj_blocks",
        "model.layers.3.mlp.up_proj.weight_scale_inv",
    }
    for name in names:
        old = extra[name.replace("layers.3", "layers.5")]
        assert cut[name].dtype == old.dtype
        assert torch.equal(cut[name].view(torch.uint8), old.view(torch.uint8))
