"""`sparsify` streamed writes what it writes in memory; a dry run states what the run will cost."""

import dataclasses
import json

import pytest
from tests.slow import slow
from tests.tiny import N_LAYERS, save_llama, save_text

from coterie.errors import UserError, VerificationError
from coterie.models.files.sources import resolve
from coterie.report.terminal.sparsify_plan import print_sparsity_plan
from coterie.sparsity import variant_cache
from coterie.sparsity.allocation import SPREADS
from coterie.sparsity.calibration import Calibration
from coterie.verbs.shared import opened_model as opening
from coterie.verbs.sparsify import apply as sparsify_apply
from coterie.verbs.sparsify import apply_streamed as sparsify_stream
from coterie.verbs.sparsify import memory as sparsify_memory
from coterie.verbs.sparsify.plan import sparsify_plan
from coterie.verbs.sparsify.request import SparsifyRequest
from coterie.verbs.sparsify.run import sparsify


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    save_llama(home / "model")
    save_text(home / "text.txt")
    return home


def asking(home, *, stream=False, players="layer", **own):
    own = {"sparsity": 0.6} | own
    return SparsifyRequest(
        str(home / "model"),
        calibration=str(home / "text.txt"),
        sequences=8,
        length=16,
        dtype="float32",
        budget=26,
        stream=stream,
        players=players,
        **own,
    )


def weights(folder):
    return [file.read_bytes() for file in resolve(str(folder)).files]


@pytest.mark.parametrize(
    ("pruner", "asked"),
    [
        ("magnitude", {"allocation": "sv-nup-window", "window": 3}),
        ("wanda", {"allocation": "owl"}),
        ("sparsegpt", {"allocation": "sv-nup", "contributions": "surrogate"}),
        slow("wanda", {"allocation": "sv-nup-window", "sparsity": None, "pattern": "2:4"}),
    ],
)
def test_streamed_and_in_memory_the_same_bytes_are_written(home, tmp_path, pruner, asked):
    records = [
        sparsify(
            asking(home, stream=stream, pruner=pruner, **asked),
            output=tmp_path / str(stream),
            store=tmp_path / "store.sqlite",
        ).as_json()
        for stream in (False, True)
    ]
    assert weights(tmp_path / "False") == weights(tmp_path / "True")
    assert weights(tmp_path / "True") != weights(home / "model")
    whole, streamed = records
    for side in ("before", "after"):
        pair = [record["verdict"][side]["nll"] for record in records]
        assert pair[0] == pytest.approx(pair[1], abs=1e-5)
    assert whole["verdict"]["kl"] == pytest.approx(streamed["verdict"]["kl"], abs=1e-5)
    assert whole["sparsity"]["zeros"] == streamed["sparsity"]["zeros"]
    assert streamed["verification"]["nll_difference"] <= 1e-5
    assert streamed["streaming"]["checked"].startswith("all layers") and "streaming" not in whole


def test_the_model_is_never_whole(home, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a whole model was loaded")

    for module in (opening, sparsify_apply):
        monkeypatch.setattr(module, "load_model", refuse)
    monkeypatch.setattr("coterie.models.cutting.verify._reload", refuse)
    asked = asking(home, stream=True, allocation="uniform", pruner="magnitude")
    record = sparsify(asked, output=tmp_path / "out", store=tmp_path / "s.sqlite").as_json()
    assert record == json.loads((tmp_path / "out" / "coterie.json").read_text())
    assert "--stream" in record["command"]


@pytest.mark.parametrize("rule", ["guided", "mixed", "ecoflap"])
def test_rules_that_cannot_be_streamed_are_refused_before_anything_is_read(home, rule):
    lost = dataclasses.replace(asking(home, stream=True, allocation=rule), model="nowhere")
    with pytest.raises(UserError, match=f"--allocation {rule} .* leave out --stream"):
        lost.check()
    with pytest.raises(UserError, match="whole layers"):
        asking(home, stream=True, players="sublayer").check()


def test_a_checkpoint_that_does_otherwise_is_not_left(home, tmp_path, monkeypatch):
    honest = sparsify_stream._losses
    monkeypatch.setattr(sparsify_stream, "_losses", lambda *given: honest(*given) + 1e-3)
    with pytest.raises(VerificationError, match=r"loss on sequence . .* of the pruned layers"):
        sparsify(
            asking(home, stream=True, allocation="uniform"),
            output=tmp_path / "out",
            store=tmp_path / "s.sqlite",
        )
    assert [path.name for path in tmp_path.iterdir() if "sqlite" not in path.name] == []


@pytest.mark.parametrize("stream", [False, True])
def test_a_dry_run_states_what_the_run_asks_and_writes_nothing(home, tmp_path, stream):
    asked = asking(home, stream=stream, allocation="sv-nup-window", window=3, most=0.9)
    plan = sparsify_plan(asked, output=tmp_path / "out", store=tmp_path / "s.sqlite")
    assert not list(tmp_path.iterdir())
    print_sparsity_plan(plan)
    record = sparsify(asked, output=tmp_path / "out", store=tmp_path / "s.sqlite").as_json()
    stated = plan.contributions
    assert stated.coalitions == record["cost"]["coalitions"] and stated.known == 0
    assert stated.layer_tokens_asked == record["cost"]["layer_tokens_asked"]
    assert stated.layer_tokens_executed == stated.layer_executions * 8 * 16
    assert plan.sharing.candidates == record["cost"]["choice"]["candidates"]
    assert plan.reachable == [0.0, 0.9]
    sizes = [unit["weights"] for unit in record["sparsity"]["units"]]
    assert [unit.weights for unit in plan.units] == sizes and len(sizes) == N_LAYERS
    again = sparsify_plan(asked, output=tmp_path / "2", store=tmp_path / "s.sqlite")
    assert again.contributions.known == stated.coalitions


@pytest.mark.parametrize("rule", ["uniform", "owl", slow("ecoflap"), slow("guided"), "mixed"])
def test_what_a_rule_asks_stays_within_what_was_stated(home, tmp_path, rule):
    asked = asking(home, allocation=rule, contributions="window", window=3)
    plan = sparsify_plan(asked, output=tmp_path / "out", store=tmp_path / "s.sqlite")
    if rule == "uniform":
        assert plan.sharing is None
        return
    record = sparsify(asked, output=tmp_path / "out", store=tmp_path / "s.sqlite").as_json()
    spent = record["cost"]["choice"].get("layer_tokens_executed", 0)
    # The unpruned model goes along once for every share of the texts.
    assert spent <= plan.sharing.layer_tokens + 3 * N_LAYERS * 8 * 16


@pytest.mark.parametrize(
    ("rule", "pruner"),
    [
        ("sv-nup", "wanda"),
        ("guided", "magnitude"),
        ("mixed", "sparsegpt"),
        slow("guided", "sparsegpt"),
        slow("mixed", "magnitude"),
        slow("sv-nup", "sparsegpt"),
    ],
)
def test_temporary_files_stay_within_what_was_stated(home, tmp_path, monkeypatch, rule, pruner):
    written, save = [], variant_cache.save_file
    monkeypatch.setitem(variant_cache.VariantCache.__init__.__kwdefaults__, "memory", 0)
    monkeypatch.setattr(sparsify_memory, "KEPT_IN_MEMORY", 0)

    def counted(tensors, file):
        written.append(sum(tensor.nbytes for tensor in tensors.values()))
        save(tensors, file)

    monkeypatch.setattr(variant_cache, "save_file", counted)
    asked = asking(home, allocation=rule, pruner=pruner, contributions="window", window=3)
    plan = sparsify_plan(asked, output=tmp_path / "out", store=tmp_path / "s.sqlite")
    sparsify(asked, output=tmp_path / "out", store=tmp_path / "s.sqlite")
    assert sum(written) <= plan.temporary_bytes
    assert (plan.temporary_bytes > 0) == (len(written) > 0) == (rule != "sv-nup")


def test_pruning_is_stated_by_the_texts_it_is_done_on(home, tmp_path):
    few, many = (
        sparsify_plan(
            asking(home, allocation="sv-nup", pruner=pruner, pruning_sequences=sequences),
            output=tmp_path / "out",
            store=tmp_path / "s.sqlite",
        )
        for pruner, sequences in (("wanda", 32), ("sparsegpt", 64))
    )
    assert few.pruning_layer_tokens == 2 * N_LAYERS * 32 * 16
    assert few.sharing.measuring_layer_tokens == few.pruning_layer_tokens
    assert many.pruning.sequences == 64 and few.calibration.sequences == 8
    hessians = 4 * (6 * 32**2 + 64**2)
    states = 4 * 64 * 16 * 32
    assert many.pruning_memory_bytes - few.pruning_memory_bytes > hessians + states
    print_sparsity_plan(many)


def test_statistics_gathered_anew_for_every_walk_are_stated(home, tmp_path, monkeypatch):
    measured, measure = [], Calibration.measure
    monkeypatch.setattr(
        Calibration,
        "measure",
        lambda self, *given: measured.append(self.states.shape[0]) or measure(self, *given),
    )
    asked = asking(home, allocation="sv-nup-window", window=3, pruning_sequences=32)
    candidate = 2 * 32 * 16 * 32 * 4  # on 32 texts of 16 tokens, a layer's inputs and outputs
    for memory, walks in ((None, 1), (candidate // 2, 2 * len(SPREADS))):
        request = dataclasses.replace(asked, state_memory=memory)
        where = {"output": tmp_path / str(memory), "store": tmp_path / "s.sqlite"}
        stated = sparsify_plan(request, **where).sharing.measuring_layer_tokens
        measured.clear()
        sparsify(request, **where)
        in_search = len(measured) - N_LAYERS
        assert stated == 2 * in_search * 32 * 16
        assert in_search == N_LAYERS * walks


def test_more_coalitions_read_no_more_from_disk(home, tmp_path):
    read, asked = [], []
    for window in (2, 4):
        record = sparsify(
            asking(home, stream=True, allocation="sv-nup-window", window=window),
            output=tmp_path / str(window),
            store=tmp_path / "s.sqlite",
        ).as_json()
        read.append(record["streaming"]["bytes_read"])
        asked.append(record["cost"]["coalitions"])
    assert read[0] == read[1] and asked[1] > 2 * asked[0]


def test_streaming_decides_how_it_is_run_and_not_what_is_asked(home, tmp_path):
    asked = asking(home, stream=True, allocation="uniform")
    first = sparsify(asked, output=tmp_path / "out", store=tmp_path / "s.sqlite").as_json()
    other = dataclasses.replace(asked, state_memory=10**7)
    again = sparsify(other, output=tmp_path / "out", store=tmp_path / "s.sqlite").as_json()
    assert again["verdict"] == first["verdict"] and again["request"] == first["request"]
