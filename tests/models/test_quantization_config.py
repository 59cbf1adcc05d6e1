"""Layer numbers inside the `quantization_config` of GPTQ, AWQ and FP8 follow the cut."""

import pytest

from coterie.errors import ModelError
from coterie.models.cutting.quantization import renumber_quantization

KEPT = {0: 0, 2: 1, 3: 2}


def follow(value):
    return renumber_quantization(value, "layers", KEPT.get)


def test_awq_and_fp8_lists_of_modules_that_stay_whole():
    names = ["lm_head", "model.layers.1.mlp", "model.layers.3.self_attn.q_proj"]
    for field in ("modules_to_not_convert", "ignored_layers"):
        assert follow({"bits": 4, field: names}) == {
            "bits": 4,
            field: ["lm_head", "model.layers.2.self_attn.q_proj"],
        }


def test_gptq_patterns_that_pack_single_layers_otherwise():
    table = {r"+:model\\.layers\\.3\\..*mlp.*": {"bits": 8}, r"-:model\\.layers\\.1\\..*": {}}
    table = {key.replace("\\\\", "\\"): value for key, value in table.items()}
    assert follow({"dynamic": table}) == {"dynamic": {r"+:model\.layers\.2\..*mlp.*": {"bits": 8}}}


@pytest.mark.parametrize("pattern", [r"+:.*\.18\..*gate.*", r"-:model\.layers\.(0|1)\..*"])
def test_a_pattern_that_cannot_be_renumbered_is_refused(pattern):
    with pytest.raises(ModelError, match="cut again"):
        follow({"dynamic": {pattern: {}}})


def test_other_towers_and_versions_stay_as_they_are():
    same = {"modules_to_not_convert": ["visual.blocks.3.attn"], "version": "0.9.2", "zero": True}
    assert follow(same) == same
