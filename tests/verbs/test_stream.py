"""A streamed run says what the run in memory says, and writes the same checkpoint."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest
import torch
from tests.tiny import save_llama

from coterie.cli import main
from coterie.engine import proof
from coterie.engine.streamed_game import StreamedGame
from coterie.errors import ModelError, UserError, VerificationError
from coterie.models.files.sources import resolve
from coterie.verbs.prune.request import PruneRequest
from coterie.verbs.prune.whole import prune, prune_plan
from coterie.verbs.shared import opened_model as opening
from coterie.verbs.shared.progress import NoProgress
from coterie.verbs.values.request import ValuesRequest
from coterie.verbs.values.run import values


def texts(home):
    return {
        "model": str(home / "model"),
        "calibration": str(home / "text.txt"),
        "sequences": 6,
        "length": 16,
        "dtype": "float32",
    }


@pytest.fixture(scope="module")
def request_(home):
    return PruneRequest(**texts(home), remove=2, method="contiguous")


@pytest.fixture(scope="module")
def estimate(home):
    # No surrogate is fitted: quick.
    return ValuesRequest(**texts(home), remove=2, method="contiguous", estimator="exact")


def streamed(request):
    return dataclasses.replace(request, stream=True)


class Heard(NoProgress):
    """Remembers what was said."""

    def __init__(self):
        self.lines = []

    def say(self, line):
        self.lines.append(line)


def weights(folder):
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in resolve(str(folder)).files]


@pytest.fixture(scope="module")
def both(home, request_):
    """The same cut in memory and streamed, with the records of both."""
    store = home / "both.sqlite"
    return [
        prune(asked, output=home / name, store=store).record.as_json()
        for name, asked in (("whole", request_), ("streamed", streamed(request_)))
    ]


def test_streamed_contributions_are_those_in_memory(estimate, home):
    asked = dataclasses.replace(estimate, remove=None, estimator="paper", budget=30)
    store = home / "values.sqlite"
    whole, layer_by_layer = (values(one, store=store) for one in (asked, streamed(asked)))
    np.testing.assert_allclose(layer_by_layer.contributions, whole.contributions, atol=1e-6, rtol=0)
    assert layer_by_layer.record.as_json()["streaming"]["passes"] == 1  # the whole design at once
    assert "streaming" not in whole.record.as_json()


def test_prune_streamed_writes_the_same_checkpoint(both, home):
    whole, layer_by_layer = both
    assert weights(home / "whole") == weights(home / "streamed")
    config = [(home / name / "config.json").read_text() for name in ("whole", "streamed")]
    assert config[0] == config[1]
    assert whole["cut"]["removed"] == layer_by_layer["cut"]["removed"]
    for side in ("before", "after"):
        pair = [record["verdict"][side]["nll"] for record in both]
        assert pair[0] == pytest.approx(pair[1], abs=1e-6)


def test_the_report_tells_that_it_was_streamed(both, home):
    record = json.loads((home / "streamed" / "coterie.json").read_text())
    part = record["streaming"]
    assert record["search"]["mode"] == "layer by layer from disk"
    assert part["passes"] > 1 and part["bytes_spilled"] == 0
    assert part["bytes_read"] > 0 and part["checked"].startswith("the first 2 layers")
    assert part["bytes_per_coalition"] == part["bytes_read"] / record["budget"]["distinct"]
    assert record["verification"]["nll_difference"] <= 1e-5
    assert "--stream" in record["command"]


def test_the_model_is_never_loaded(request_, home, monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise AssertionError("a whole model was loaded")

    monkeypatch.setattr(opening, "load_model", refuse)
    monkeypatch.setattr("coterie.models.cutting.verify._reload", refuse)
    prune(streamed(request_), output=tmp_path / "out", store=tmp_path / "s.sqlite")
    assert (tmp_path / "out" / "config.json").is_file()


def test_what_was_observed_is_not_read_from_disk_again(estimate, home, tmp_path):
    store = tmp_path / "s.sqlite"
    first = values(streamed(estimate), store=store).record.as_json()["streaming"]
    again = values(streamed(estimate), store=store).record.as_json()["streaming"]
    assert first["passes"] >= 1 and again["passes"] == 0


def test_a_failed_proof_leaves_nothing(request_, home, monkeypatch, tmp_path):
    honest = proof.losses_of

    def other(game, coalition):
        found = honest(game, coalition)
        found[3] += 1e-3 * isinstance(game, StreamedGame)  # the written checkpoint, unremembered
        return found

    monkeypatch.setattr(proof, "losses_of", other)
    with pytest.raises(VerificationError, match=r"loss on sequence 3 is .* may differ by 1e-05"):
        prune(streamed(request_), output=tmp_path / "out", store=tmp_path / "s.sqlite")
    assert [path.name for path in tmp_path.iterdir() if "sqlite" not in path.name] == []


@pytest.mark.parametrize("method", ["guided", "greedy"])
def test_other_methods_choose_streamed_what_they_choose_in_memory(method, request_, tmp_path):
    asked = dataclasses.replace(request_, method=method, sequences=4)
    whole, layer_by_layer = (
        prune(one, output=tmp_path / name, store=tmp_path / "s.sqlite").record.as_json()
        for name, one in (("whole", asked), ("streamed", streamed(asked)))
    )
    assert whole["cut"]["removed"] == layer_by_layer["cut"]["removed"]
    assert layer_by_layer["streaming"]["passes"] > 3  # one for each question


def test_the_plan_says_what_every_question_reads(request_, home, tmp_path):
    where = {"output": tmp_path / "out", "store": tmp_path / "s.sqlite"}
    plan = prune_plan(streamed(request_), **where).record.plan
    layers = [e for e in resolve(str(home / "model")).entries if ".layers." in e.name]
    assert plan.pass_bytes == sum(entry.n_bytes for entry in layers)
    assert not (tmp_path / "out").exists()


def test_a_model_without_room_is_told_of_streaming(estimate, home, monkeypatch, tmp_path):
    monkeypatch.setattr(opening, "free_bytes", lambda device: 1000)
    heard = Heard()
    values(estimate, store=tmp_path / "s.sqlite", progress=heard)
    assert any("--stream" in line and line.startswith("warning") for line in heard.lines)
    heard = Heard()
    values(streamed(estimate), store=tmp_path / "s.sqlite", progress=heard)
    assert any(line.startswith("streaming: every question reads") for line in heard.lines)


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"players": "mlp"}, "--stream plays whole layers: leave out --players mlp"),
        ({"remove": None, "target_speedup": 1.2}, "--target-speedup times a model in memory"),
    ],
)
def test_what_needs_the_whole_model_is_refused(request_, changed, complaint):
    with pytest.raises(UserError, match=complaint):
        dataclasses.replace(streamed(request_), **changed).check()


def test_a_quantized_checkpoint_is_refused(home, tmp_path):
    save_llama(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "compressed-tensors", "bits": 4}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="cannot be streamed: its weights are quantized"):
        StreamedGame(resolve(str(tmp_path / "model")), torch.zeros((2, 8), dtype=torch.int64))


def test_healing_is_refused_in_one_line(home, capsys, tmp_path):
    asked = ["prune", str(home / "model"), "--remove", "2", "--output", str(tmp_path / "out")]
    assert main([*asked, "--stream", "--quantize", "int8"]) == 2
    assert "cut first" in " ".join(capsys.readouterr().err.split())


def test_bfloat16_is_streamed_and_proved(request_, home, tmp_path):
    asked = dataclasses.replace(streamed(request_), dtype="bfloat16")
    record = prune(asked, output=tmp_path / "out", store=tmp_path / "s.sqlite").record.as_json()
    assert record["verification"]["nll_difference"] <= 0.02


def test_a_streamed_and_a_loaded_run_share_no_facts(both):
    assert both[0]["search"]["mode"] == "shared prefixes"
    assert both[1]["budget"]["known"] == 0
