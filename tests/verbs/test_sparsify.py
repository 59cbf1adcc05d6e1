"""`sparsify` on a tiny model: sparse as asked, proved, told again, refused in one line."""

import gc
import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console
from tests.tiny import N_LAYERS, save_llama, save_text, tokenizer
from transformers import (
    AutoModelForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedModel,
)

from coterie.engine.parts.head import ProjectionHead
from coterie.errors import UserError
from coterie.models.cutting import verify as safety
from coterie.report.terminal.sparsify import print_sparsity
from coterie.sparsity.units import GONE
from coterie.sparsity.variant_cache import PassingVariants, VariantCache
from coterie.sparsity.variant_game import ChoiceGame
from coterie.verbs.outputs.records import read_record
from coterie.verbs.shared import opened_model as opening
from coterie.verbs.shared.prepared import prepare
from coterie.verbs.shared.progress import NoProgress
from coterie.verbs.sparsify import apply as sparsify_apply
from coterie.verbs.sparsify import texts as sparsify_texts
from coterie.verbs.sparsify.contribution_methods import contribution_method
from coterie.verbs.sparsify.contributions import asked_by
from coterie.verbs.sparsify.judging import Judging
from coterie.verbs.sparsify.request import SparsifyRequest
from coterie.verbs.sparsify.run import sparsify
from coterie.verbs.sparsify.texts import with_pruning_texts


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    save_llama(home / "model")
    save_text(home / "text.txt")
    return home


def asking(home, *, players="layer", lock=(), sequences=8, seed=0, budget=None, **own):
    own = {"window": 3, "contributions": "window"} | own
    return SparsifyRequest(
        str(home / "model"),
        calibration=str(home / "text.txt"),
        sequences=sequences,
        length=16,
        players=players,
        lock=lock,
        seed=seed,
        budget=budget,
        **own,
    )


def done(home, output, **asked):
    found = sparsify(asking(home, **asked), output=home / output, store=home / "store.sqlite")
    return found.as_json()


def zeros_of(folder):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    assert model.dtype == torch.bfloat16
    maps = [
        [p for name, p in layer.named_parameters() if p.dim() == 2] for layer in model.model.layers
    ]
    return np.array(
        [sum(int((p == 0).sum()) for p in some) / sum(p.numel() for p in some) for some in maps]
    )


@pytest.mark.parametrize("rule", ["uniform", "owl", "ecoflap", "sv-nup", "sv-nup-window", "guided"])
def test_the_checkpoint_is_as_sparse_as_its_record_says(home, rule):
    record = done(home, f"out-{rule}", sparsity=0.6, allocation=rule)
    sparse = record["sparsity"]
    assert sparse["asked"] == pytest.approx(0.6, abs=1e-6)
    found = zeros_of(home / f"out-{rule}")
    assert len(found) == N_LAYERS
    np.testing.assert_allclose([u["realised"] for u in sparse["units"]], found, atol=1e-12)
    np.testing.assert_allclose([u["asked"] for u in sparse["units"]], found, atol=1 / 32)
    assert record == json.loads((home / f"out-{rule}" / "coterie.json").read_text())
    assert "sparse" in (home / f"out-{rule}" / "README.md").read_text()


def test_sparsity_follows_the_contributions(home):
    units = done(home, "out-order", sparsity=0.5, allocation="sv-nup")["sparsity"]["units"]
    by_value = sorted(units, key=lambda unit: unit["contribution"])
    assert (np.diff([unit["asked"] for unit in by_value]) <= 1e-9).all()


def test_mixed_cuts_layers_and_meets_one_budget(home):
    record = done(home, "out-mixed", sparsity=0.7, allocation="mixed")
    sparse = record["sparsity"]
    cut = sum(unit["cut"] for unit in sparse["units"])
    assert sparse["asked"] == pytest.approx(0.7, abs=1e-6)
    assert sparse["realised"] == pytest.approx(0.7, abs=0.01)
    assert len(zeros_of(home / "out-mixed")) == N_LAYERS - cut
    tried = record["cost"]["choice"]["loss_by_layers_cut"]
    assert min(tried, key=tried.get) == str(cut)


def test_blocks_have_sparsities_of_their_own(home):
    record = done(home, "out-blocks", sparsity=0.5, players="sublayer")
    units = record["sparsity"]["units"]
    assert [unit["unit"] for unit in units[:2]] == ["0.attention", "0.mlp"]
    weights = np.array([unit["weights"] for unit in units])
    assert np.average([unit["asked"] for unit in units], weights=weights) == pytest.approx(0.5)


def test_patterns_hold_in_every_group(home):
    record = done(home, "out-pattern", pattern="2:4", pruner="magnitude", allocation="sv-nup")
    model = AutoModelForCausalLM.from_pretrained(home / "out-pattern")
    for layer, unit in zip(model.model.layers, record["sparsity"]["units"], strict=True):
        groups = layer.mlp.up_proj.weight.reshape(-1, 4)
        assert ((groups == 0).sum(dim=1) == round(4 * unit["asked"])).all()
    assert record["sparsity"]["asked"] == pytest.approx(0.5, abs=0.5 / 4 / N_LAYERS)


def test_the_same_request_is_only_told_again(home):
    first = done(home, "out-again", sparsity=0.5, allocation="uniform")
    stamp = (home / "out-again" / "model.safetensors").stat().st_mtime_ns
    assert done(home, "out-again", sparsity=0.5, allocation="uniform") == json.loads(
        json.dumps(first)
    )
    assert (home / "out-again" / "model.safetensors").stat().st_mtime_ns == stamp
    with pytest.raises(UserError, match="not empty"):
        done(home, "out-again", sparsity=0.4, allocation="uniform")


def test_bounds_between_two_steps_of_the_grid_are_kept(home):
    asked = {"sparsity": 0.51, "least": 0.505, "most": 0.52, "allocation": "guided"}
    sparse = done(home, "out-narrow", **asked)["sparsity"]
    assert sparse["asked"] == pytest.approx(0.51, abs=1e-6)
    assert all(0.505 <= unit["asked"] <= 0.52 for unit in sparse["units"])


def test_a_budget_is_kept(home):
    asked = {"sparsity": 0.5, "contributions": "auto", "budget": 40}
    assert done(home, "out-budget", **asked)["cost"]["coalitions"] <= 40
    assert done(home, "out-exact", sparsity=0.5, contributions="auto")["cost"]["coalitions"] == 64


def test_a_rule_that_chooses_nothing_needs_nothing_to_choose_from(home):
    everyone = tuple(range(N_LAYERS))
    record = done(home, "out-locked", sparsity=0.5, allocation="uniform", lock=everyone)
    assert record["sparsity"]["asked"] == pytest.approx(0.5)


def test_sparsegpt_tells_its_damping(home):
    record = done(home, "out-gpt", sparsity=0.5, allocation="uniform", pruner="sparsegpt")
    assert record["sparsity"]["damping"] > 0


@pytest.mark.parametrize("pruner", ["wanda", "sparsegpt"])
def test_experts_nobody_was_routed_to_are_named_and_pruned_all_the_same(tmp_path, pruner):
    """Routers whose two chosen experts always score above zero, and a third that scores zero."""
    torch.manual_seed(0)
    config = MixtralConfig(
        vocab_size=400,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=5,
        num_experts_per_tok=2,
        initializer_range=0.15,
    )
    model = MixtralForCausalLM(config)
    for layer in model.model.layers:
        gate = layer.mlp.gate.weight.data
        gate[1], gate[3], gate[4] = -gate[0], -gate[2], 0.0
    model.save_pretrained(tmp_path / "model")
    tokenizer().save_pretrained(tmp_path / "model")
    save_text(tmp_path / "text.txt")
    asked = {"sparsity": 0.5, "allocation": "uniform", "pruner": pruner}
    record = done(tmp_path, "out", sequences=16, **asked)["sparsity"]
    maps = ("gate_up_proj", "down_proj")
    named = {name for name in record["unseen"] if "[4]" in name}
    assert named == {f"{layer}.mlp.experts.{one}[4]" for layer in range(2) for one in maps}
    assert named == set(record["unseen"]) and record["judged_on"][0] == 0
    assert record["realised"] == pytest.approx(0.5, abs=0.01)
    told = io.StringIO()
    print_sparsity(read_record(tmp_path / "out"), Console(file=told))
    assert "none reached 4 of them" in " ".join(told.getvalue().split())


def test_states_wider_than_the_head_are_read(tmp_path):
    """Mamba keeps its states in float32 whatever the dtype of its weights."""
    torch.manual_seed(0)
    config = MambaConfig(
        vocab_size=400, hidden_size=32, state_size=4, num_hidden_layers=2, initializer_range=0.15
    )
    MambaForCausalLM(config).to(torch.bfloat16).save_pretrained(tmp_path / "model")
    tokenizer().save_pretrained(tmp_path / "model")
    save_text(tmp_path / "text.txt")
    request = asking(tmp_path, sparsity=0.5, allocation="sv-nup", window=2)
    request = replace(request, dtype="bfloat16")
    record = sparsify(request, output=tmp_path / "out", store=tmp_path / "store.sqlite").as_json()
    assert record["dtype"] == "bfloat16"
    assert record["sparsity"]["realised"] == pytest.approx(0.5, abs=0.01)


def test_a_head_that_fails_is_told_before_anything_is_played(home, tmp_path, monkeypatch):
    def failing(*_):
        raise RuntimeError("two dtypes do not multiply")

    monkeypatch.setattr(ProjectionHead, "logits", failing)
    monkeypatch.setattr("coterie.verbs.sparsify.run.share_out", None)
    with pytest.raises(UserError, match=r"layer by layer .*two dtypes") as caught:
        done(home, tmp_path / "out", sparsity=0.5)
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_zeros_are_counted_in_the_dtype_they_are_stored_in(tmp_path):
    """Weights of 1e-9, stored in float32 under a config that says float16, are no zeros."""
    save_llama(tmp_path / "model", n_layers=2, dtype=torch.float32)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[:, :40] = 1e-9
    model.save_pretrained(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps(config | {"dtype": "float16"}))
    save_text(tmp_path / "text.txt")
    record = done(tmp_path, "out", sparsity=0.3, allocation="uniform")
    assert record["sparsity"]["realised"] == pytest.approx(0.3, abs=0.01)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"sparsity": 1.0}, r"\[0, 1\)"),
        ({"sparsity": -0.1}, r"\[0, 1\)"),
        ({}, "--sparsity"),
        ({"sparsity": 0.5, "pattern": "2:4"}, "--sparsity"),
        ({"sparsity": 0.7, "most": 0.6}, "reach"),
        ({"pattern": "3:7", "allocation": "uniform"}, "divide"),
        ({"pattern": "4"}, "N:M"),
        ({"sparsity": 0.5, "allocation": "fair"}, "unknown"),
        ({"sparsity": 0.5, "pruner": "scissors"}, "unknown"),
        ({"sparsity": 0.5, "allocation": "mixed", "players": "sublayer"}, "mixed"),
        ({"sparsity": 0.5, "pruner": "sparsegpt", "pruning_sequences": 2}, "too few"),
        ({"sparsity": 0.5, "window": 40}, "window"),
        ({"sparsity": 0.5, "most": 1.0}, "below 1"),
        ({"sparsity": 0.5, "contributions": "surrogate", "budget": 8}, "at least 26"),
        ({"sparsity": 0.5, "lock": (0, 1, 2, 3, 4, 5)}, "lock fewer"),
        ({"sparsity": 0.5, "lock": (0, 1, 2, 3, 4), "contributions": "surrogate"}, "lock fewer"),
        ({"sparsity": 0.5, "lock": (0, 1, 2, 3, 4, 5), "contributions": "exact"}, "lock fewer"),
        ({"sparsity": 0.5, "pruning_sequences": 0}, "at least 1"),
        ({"sparsity": 0.5, "pruning_sequences": 9, "pruner": "magnitude"}, "weights alone"),
    ],
)
def test_what_cannot_be_had_is_refused_and_nothing_is_written(home, asked, message):
    with pytest.raises(UserError, match=message) as caught:
        done(home, "refused", **asked)
    assert "\n" not in str(caught.value)
    assert not (home / "refused").exists() and not list(home.glob(".refused*"))


@pytest.mark.parametrize("how", ["exact", "surrogate", "window"])
def test_the_cost_that_is_stated_is_the_cost(home, how):
    request = asking(home, sparsity=0.5, contributions=how, lock=(1,))
    values = contribution_method(request, 5, (1,)).values
    stated, asked = asked_by(values, 5), []

    def value(coalitions):
        asked.append(coalitions)
        return coalitions @ np.array([1.0, 0.5, 2.0, 3.0, 0.25])

    found = values(value)
    np.testing.assert_allclose(found, [1.0, np.nan, 2.0, 3.0, 0.25], atol=1e-9)
    assert len(np.unique(np.concatenate(asked), axis=0)) == len(stated)


class Census:
    """Wraps what loads a model: counts the ones with weights that are alive when it is called."""

    def __init__(self, monkeypatch):
        self.alive, load = [], self._counting(opening.load_model)
        monkeypatch.setattr(opening, "load_model", load)
        monkeypatch.setattr(sparsify_apply, "load_model", load)
        monkeypatch.setattr(safety, "_reload", self._counting(safety._reload))

    @staticmethod
    def count():
        models = [one for one in gc.get_objects() if issubclass(type(one), PreTrainedModel)]
        return sum(any(not part.is_meta for part in one.parameters()) for one in models)

    def _counting(self, load):
        def counted(*given, **named):
            self.alive.append(self.count())
            return load(*given, **named)

        return counted


@pytest.mark.parametrize(("rule", "loads"), [("uniform", 3), ("sv-nup", 3), ("mixed", 4)])
def test_two_copies_of_a_model_never_coexist(home, tmp_path, monkeypatch, rule, loads):
    judged = Judging.__call__

    def cutting_pays(self, levels, share=1.0):
        return judged(self, levels, share) - (levels == GONE).sum(axis=1)

    monkeypatch.setattr(Judging, "__call__", cutting_pays)
    gc.collect()
    census, already = Census(monkeypatch), Census.count()
    record = done(home, tmp_path / "out", sparsity=0.6, allocation=rule)
    assert any(unit["cut"] for unit in record["sparsity"]["units"]) == (rule == "mixed")
    assert census.alive == [already] * loads


def test_pruners_measure_on_more_sequences_than_the_game_is_played_on(home, tmp_path):
    wide = done(home, tmp_path / "wide", sparsity=0.5, allocation="uniform")
    assert wide["calibration"]["sequences"] == 8 and wide["pruning"]["sequences"] == 128
    assert wide["sparsity"]["judged_on"] == [128 * 16] * 2
    few = done(home, tmp_path / "few", sparsity=0.5, allocation="owl", pruning_sequences=8)
    assert few["pruning"]["sha256"] == few["calibration"]["sha256"]
    assert few["sparsity"]["judged_on"] == [8 * 16] * 2
    assert "--pruning-sequences 8" in few["command"]
    assert few["identity"]["pruning_sha256"] != wide["identity"]["pruning_sha256"]
    none = done(home, tmp_path / "none", sparsity=0.5, allocation="uniform", pruner="magnitude")
    assert none["pruning"] is None and none["identity"]["pruning_sha256"] is None


def test_a_hessian_is_measured_on_ten_tokens_for_every_input_by_default(home):
    request = asking(home, sparsity=0.5, pruner="sparsegpt", allocation="uniform")
    prepared = prepare(request.opening(), progress=NoProgress())
    said = []
    told = type("Told", (NoProgress,), {"say": lambda self, line: said.append(line)})()
    many = sparsify_texts.PER_INPUT, sparsify_texts.MOST
    assert with_pruning_texts(prepared, request, told).pruning.n_sequences == 128  # 64 inputs
    assert many == (10, 2048) and not said
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sparsify_texts, "PER_INPUT", 40)
        assert with_pruning_texts(prepared, request, told).pruning.n_sequences == 160 and not said
        patch.setattr(sparsify_texts, "PER_INPUT", 10_000)
        found = with_pruning_texts(prepared, request, told).pruning
    assert 160 < found.n_sequences < 2048 and said[0].startswith("warning: the calibration text")
    held_out = {row.tobytes() for row in prepared.held_out.tokens}
    assert not held_out & {row.tobytes() for row in found.tokens}


def test_too_little_text_for_a_hessian_is_told_before_weights_are_loaded(home, monkeypatch):
    monkeypatch.setattr(opening, "load_model", None)
    with pytest.raises(UserError, match=r"32 calibration tokens .*--pruning-sequences"):
        done(home, "none", sparsity=0.5, pruner="sparsegpt", pruning_sequences=2)
    with pytest.raises(UserError, match="where 5000 are asked"):
        done(home, "none", sparsity=0.5, pruning_sequences=5000)


def test_what_state_memory_allows_reaches_every_walk(home, tmp_path, monkeypatch):
    given, begin = [], ChoiceGame.__init__

    def noted(self, judged, *args, **named):
        given.append(judged.state_memory)
        begin(self, judged, *args, **named)

    monkeypatch.setattr(ChoiceGame, "__init__", noted)
    for rule, stream in (("mixed", False), ("ecoflap", False), ("sv-nup", True)):
        request = asking(home, sparsity=0.5, allocation=rule)
        request = replace(request, state_memory=10**6, stream=stream)
        sparsify(request, output=tmp_path / rule, store=tmp_path / "store.sqlite")
    assert given == [10**6] * len(given) and len(given) >= 3 + 3 + 3


@pytest.mark.parametrize("rule", ["sv-nup", "guided"])
def test_statistics_are_kept_only_where_variants_are_made_again(home, tmp_path, monkeypatch, rule):
    made = []
    for kind in (VariantCache, PassingVariants):
        begin = kind.__init__
        monkeypatch.setattr(
            kind,
            "__init__",
            lambda self, *given, begin=begin, **named: (
                made.append((type(self), given[0].tokens.shape[0])) or begin(self, *given, **named)
            ),
        )
    done(home, tmp_path / "out", sparsity=0.5, allocation=rule)
    assert made == [(PassingVariants if rule == "sv-nup" else VariantCache, 128)]
