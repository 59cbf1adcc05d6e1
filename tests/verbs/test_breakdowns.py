"""A coalition that breaks down is named, with its layer, on the screen and in the record."""

import numpy as np
import pytest
import torch
from tests.tiny import save_llama, save_text

from coterie.verbs.shared import opened_model, workspace
from coterie.verbs.shared.progress import NoProgress
from coterie.verbs.values.request import ValuesRequest
from coterie.verbs.values.run import values

BROKEN = {"layer": {"001"}, "sublayer": {"000001", "000010", "000011"}}
"""Coalitions whose only layer is the last, whole or in part."""


class Heard(NoProgress):
    """Remembers what was said."""

    def __init__(self):
        self.lines = []

    def say(self, line):
        self.lines.append(line)


def load_fragile(*given, **how):
    """A model whose last layer overflows where no layer has run before it."""
    model = load_model(*given, **how)
    embeddings = model.get_input_embeddings().weight

    def overflow(module, args, output):
        untouched = (args[0][:, :1] == embeddings).all(dim=2).any(dim=1)
        return torch.where(untouched[:, None, None], torch.inf, output)

    model.model.layers[-1].register_forward_hook(overflow)
    return model


load_model = opened_model.load_model


@pytest.mark.parametrize("players", ["layer", "sublayer"])
def test_a_layer_that_overflows_is_named_in_the_warnings_and_in_the_record(
    players, tmp_path, monkeypatch
):
    monkeypatch.setattr(opened_model, "load_model", load_fragile)
    monkeypatch.setattr(workspace, "WARNINGS", 2)
    heard = Heard()
    request = ValuesRequest(
        model=str(save_llama(tmp_path / "model", n_layers=3, dtype=torch.float32)),
        players=players,
        estimator="exact",
        calibration=str(save_text(tmp_path / "text.txt")),
        sequences=2,
        length=16,
        dtype="float32",
    )
    found = values(request, store=tmp_path / "store.sqlite", progress=heard)
    named = found.record.as_json()["breakdowns"]
    assert {line.split()[1] for line in named} == BROKEN[players]
    assert len(named) == len(BROKEN[players])
    assert all("on 2 of 2 sequences" in line for line in named)
    assert all("first not finite after layer 2: stored as it is" in line for line in named)
    assert np.isfinite(found.contributions).all()
    warned = [line for line in heard.lines if line.startswith("warning: coalition")]
    assert warned == [f"warning: {line}" for line in named[: workspace.WARNINGS]]
    more = any("1 more coalitions broke down" in line for line in heard.lines)
    assert more is (players == "sublayer")
