"""Lists of other tools are read as they are, and written as others read them."""

import json

import pytest

from coterie.errors import CutError
from coterie.models.cutting.lists import passthrough_yaml, read_list
from coterie.models.cutting.preview import inspect_config
from coterie.testing.tiny import tiny_config

SLEB = """Time Elapsed: 1.2
Model Name: facebook/opt-6.7b
# Total Blocks: 8
Block Removal Order: [3, 4]

Time Elapsed: 1.3
Block Removal Order: [6, 2, 5]
WikiText-2 PPL = 12.47
"""


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        ("none\nattn+mlp\nnone\nattn+mlp\nnone\nnone\nnone\nnone\n", (1, 3)),
        ("model.blocks.0,False,4\nmodel.blocks.1,True,3\n", (1,)),
        (SLEB, (2, 5, 6)),
        ("[7, 2, 5]", (2, 5, 7)),
        ("2, 5,7\n", (2, 5, 7)),
        ("prune_layers = [6, 5]", (5, 6)),
        (json.dumps({"model": {"player_kind": "layer"}, "cut": {"removed": [1, 4]}}), (1, 4)),
    ],
)
def test_a_list_is_read_as_it_is(text, layers, tmp_path):
    file = tmp_path / "list.txt"
    file.write_text(text)
    assert read_list(file, 8) == layers


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("none\nattn+mlp\n", "speaks of 2 layers, the model has 8"),
        ("none\nattn\n" + 6 * "none\n", "only the attn block of layer 1"),
        ("hello", "is no list of layers"),
        (8 * "none\n", "names no layer to cut"),
    ],
)
def test_what_is_no_list_is_refused(text, complaint, tmp_path):
    file = tmp_path / "list.txt"
    file.write_text(text)
    with pytest.raises(CutError, match=complaint):
        read_list(file, 8)
    with pytest.raises(CutError, match="cannot be read"):
        read_list(tmp_path / "nowhere.txt", 8)


def test_mergekit_gets_runs_of_layers():
    assert passthrough_yaml("some/model", (0, 1, 2, 4, 6, 7), "bfloat16").splitlines() == [
        "slices:",
        "  - sources:",
        '      - model: "some/model"',
        "        layer_range: [0, 3]",
        "  - sources:",
        '      - model: "some/model"',
        "        layer_range: [4, 5]",
        "  - sources:",
        '      - model: "some/model"',
        "        layer_range: [6, 8]",
        "merge_method: passthrough",
        "dtype: bfloat16",
    ]


def test_an_inspection_counts_and_locks_without_weights():
    found = inspect_config(tiny_config("bamba", 6), (0, 1, 2, 5))
    assert found.path == "model.layers"
    assert found.unlocked == (0, 2, 3, 4, 5)
    assert "first" in found.players[1].lock
    assert [player.kind for player in found.players].count("full_attention") == 2
    assert found.changes["num_hidden_layers"] == 4
    gone = sum(player.n_parameters for player in found.players if player.number in (3, 4))
    assert found.n_parameters - found.n_parameters_after == gone
    with pytest.raises(CutError, match="layer 1 is locked"):
        inspect_config(tiny_config("bamba", 6), (0, 2, 3))


def test_a_record_that_cut_blocks_is_no_list_of_layers(tmp_path):
    file = tmp_path / "coterie.json"
    file.write_text(json.dumps({"model": {"player_kind": "mlp"}, "cut": {"removed": [1]}}))
    with pytest.raises(CutError, match="mlp blocks"):
        read_list(file, 6)
