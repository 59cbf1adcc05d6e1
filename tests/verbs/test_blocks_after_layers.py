"""Single blocks after whole layers: never worse, never larger, saved as ordinary as can be."""

import json

import numpy as np
import pytest
import torch
from tests.tiny import save_llama, save_text, tokenizer
from transformers import AutoModelForCausalLM

from coterie import CompareRequest, PruneRequest, ValuesRequest, compare, prune, values
from coterie.errors import UserError
from coterie.game.search.decide import Decision, Standing
from coterie.testing.tiny import tiny_model
from coterie.verbs.prune.blocks import within_error
from coterie.verbs.prune.whole import prune_plan
from coterie.verbs.search import blocks as module

TEXTS = {"sequences": 4, "length": 16}
SILENT = (1, 2, 3, 4)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A tiny Llama, one with four attention blocks that add nothing, and other families."""
    home = tmp_path_factory.mktemp("blocks")
    save_llama(home / "tiny", dtype=torch.float32)
    planted = AutoModelForCausalLM.from_pretrained(home / "tiny")
    for layer in SILENT:
        torch.nn.init.zeros_(planted.model.layers[layer].self_attn.o_proj.weight)
    planted.save_pretrained(home / "planted")
    tokenizer().save_pretrained(home / "planted")
    for family in ("gpt2", "mamba2"):
        model = tiny_model(family, 4)
        model.resize_token_embeddings(400)
        model.save_pretrained(home / family)
        tokenizer().save_pretrained(home / family)
    save_text(home / "text.txt")
    return home


def asked(home, model, **changes):
    given = {"calibration": str(home / "text.txt"), "players": "layer+block", **TEXTS, **changes}
    return PruneRequest(str(home / model), **given)


def run(home, name, request):
    return prune(request, output=home / name, store=home / "store.sqlite").record


@pytest.fixture(scope="module")
def planted(home):
    with pytest.MonkeyPatch.context() as patch:
        # Four sequences cannot tell the two apart: here what loses less is cut all the same.
        patch.setattr("coterie.verbs.prune.blocks.within_error", lambda _: False)
        return run(home, "planted-out", asked(home, "planted", remove=1))


def test_what_loses_less_within_one_standard_error_leaves_whole_layers(home, planted):
    layers = planted.choice.sizes[0].finalists[0]
    assert layers.method == "whole layers" and 0 < layers.behind <= layers.error
    record = run(home, "noise-out", asked(home, "planted", remove=1))
    assert record.model.player_kind == "layer" and len(record.cut.removed) == 1
    assert "by no more than one standard error, so whole layers are cut" in record.choice.remark
    clear = Decision(None, [Standing("whole layers", 0.02, 0.01), Standing("blocks", 0.0, 0.0)])
    alone = Decision(None, [Standing("whole layers", 0.02, None), Standing("blocks", 0.0, None)])
    assert not within_error(clear) and not within_error(alone)


def test_blocks_that_add_nothing_win_over_a_layer_unless_others_lose_even_less(home, planted):
    (size,) = planted.choice.sizes
    assert size.excess < 1e-6  # the silent four, more than a layer together, would cost nothing
    assert size.finalists[0].method == "whole layers" and len(size.finalists[0].removed) == 2
    assert size.finalists[0].behind > 0 and size.method == "blocks"
    assert planted.model.player_kind == "sublayer"
    assert planted.request["players"] == "layer+block"
    loaded = AutoModelForCausalLM.from_pretrained(home / "planted-out", trust_remote_code=True)
    assert loaded.config.model_type == "nemotron-nas"


def test_the_cut_of_blocks_is_no_larger_than_that_of_layers(planted):
    layers = planted.choice.sizes[0].finalists[0]
    assert {label.partition(".")[0] for label in layers.removed_labels} == {
        str(layers.removed[0] // 2)
    }
    attention, feed_forward, norms = 2 * 32 * (32 + 16), 3 * 32 * 64, 2 * 32
    gone = planted.size.parameters_before - planted.size.parameters_after
    assert gone >= attention + feed_forward + norms
    assert planted.budget.distinct > planted.budget.known


def test_where_whole_layers_win_the_checkpoint_is_theirs(home, monkeypatch):
    monkeypatch.setattr(module, "MULTIPLE", 0)  # nothing more may be run: nothing can win
    mixed = run(home, "tiny-out", asked(home, "tiny", remove=2))
    assert mixed.model.player_kind == "layer" and len(mixed.cut.removed) == 2
    assert mixed.choice.sizes[0].finalists[0].method == "guided"
    assert "none at no higher cost loses less" in mixed.choice.remark
    assert "block_configs" not in json.loads((home / "tiny-out" / "config.json").read_text())
    assert not list((home / "tiny-out").glob("*.py"))
    loaded = AutoModelForCausalLM.from_pretrained(home / "tiny-out")
    assert type(loaded).__name__ == "LlamaForCausalLM" and loaded.config.num_hidden_layers == 4


def test_whole_layers_met_among_blocks_are_cut_as_layers(home, monkeypatch):
    class Better(module.Exchanges):
        """Knows nothing but one cut of whole layers, which it takes for the best."""

        def search(self, starts, *, rng):
            other = np.repeat(np.arange(6) < 4, 2)
            for one in (starts, other[None]):
                self.ledger.losses(one)

    monkeypatch.setattr(module, "Exchanges", Better)
    record = run(home, "other-out", asked(home, "tiny", remove=2, seed=1))
    assert record.model.player_kind == "layer"
    methods = {one.method for one in record.choice.sizes[0].finalists}
    assert record.cut.removed != [4, 5] or "blocks" in methods


def test_a_target_bounds_blocks_as_it_bounds_layers(home):
    request = asked(home, "tiny", target_params=0.8, seed=2)
    record = run(home, "target-out", request)
    assert record.size.parameters_after <= record.target.most
    assert record.target.after == pytest.approx(record.size.parameters_after)


def test_where_no_cut_of_blocks_would_be_read_layers_are_cut_and_it_is_said(home):
    record = run(home, "gpt2-only", asked(home, "gpt2", remove=1))
    assert record.model.player_kind == "layer" and len(record.cut.removed) == 1
    assert "whole layers only: 'gpt2' is a gpt2" in record.choice.remark
    with pytest.raises(UserError, match="--serve asks other things of layers than of blocks"):
        run(home, "served", asked(home, "tiny", remove=1, serve=("vllm",)))


def test_the_plan_foresees_the_blocks(home):
    plans = [
        prune_plan(
            asked(home, "tiny", remove=2, players=players),
            output=home / "planned",
            store=home / "store.sqlite",
        ).record.plan
        for players in ("layer", "layer+block")
    ]
    one, both = (plan.layer_tokens_executed for plan in plans)
    assert both == (1 + module.MULTIPLE) * one


def test_a_row_of_a_comparison_at_equal_parameters(home):
    names = ("guided", "guided+blocks")
    contest = {"methods": names, "removals": (1, 2), "seeds": 1, "rounds": 0}
    texts = {"calibration": str(home / "text.txt"), **TEXTS}
    found = compare(CompareRequest(str(home / "tiny"), **texts, **contest), store=home / "c.sqlite")
    rows = {(row.method, row.removed): row for row in found.rows}
    for removed in (1, 2):
        layers, blocks = rows["guided", removed], rows["guided+blocks", removed]
        assert blocks.gap is None and blocks.size.parameters <= layers.size.parameters
        assert blocks.cost.layer_tokens_asked > layers.cost.layer_tokens_asked
        assert blocks.sequences == layers.sequences  # both have read the selection set
    assert rows["guided+blocks", 1].title == "guided search (ours), then blocks"


def test_a_comparison_says_where_there_are_no_blocks(home):
    texts = {"calibration": str(home / "text.txt"), **TEXTS}
    contest = {"methods": ("guided+blocks",), "removals": (1,), "seeds": 1, "rounds": 0}
    request = CompareRequest(str(home / "mamba2"), **texts, **contest)
    (row,) = compare(request, store=home / "c.sqlite").rows
    assert "only whole layers of this model are players" in row.gap


def test_what_does_not_go_together_is_refused_in_one_line(home):
    for changes, told in (
        ({"method": "greedy"}, "give --method guided"),
        ({"stream": True}, "--stream plays whole layers"),
        ({"utility": "nll"}, "--utility cuts whole layers"),
        ({"repair": "both"}, "cuts blocks: leave out one of the two"),
    ):
        with pytest.raises(UserError, match=told):
            run(home, "refused", asked(home, "tiny", remove=1, **changes))
    request = ValuesRequest(str(home / "tiny"), players="layer+block")
    with pytest.raises(UserError, match="give layer or sublayer"):
        values(request, store=home / "store.sqlite")
    assert not (home / "refused").exists()
