"""The last word between finalists after a short healing, by which no weight is changed."""

from dataclasses import replace

import pytest
import torch

from coterie import CutRequest, PruneRequest, cut, prune
from coterie.errors import UserError
from coterie.verbs.outputs.records import read_record
from coterie.verbs.search import healed


def test_finalists_are_healed_for_a_few_steps_and_judged_then(whole, text, tmp_path, monkeypatch):
    monkeypatch.setattr(healed, "STEPS", 3)
    monkeypatch.setattr(healed, "MOST", 2)
    monkeypatch.setattr("coterie.verbs.shared.prepared.sequences_in_a_game", lambda *_: 16)
    seen = []
    judge = healed.floored_losses

    def watched(model, tokens, *, predict):
        weights = [one.detach().clone() for one in model.parameters()]
        seen.append(weights)
        return judge(model, tokens, predict=predict)

    monkeypatch.setattr(healed, "floored_losses", watched)
    asked = PruneRequest(
        str(whole),
        remove=2,
        calibration=str(text),
        sequences=4,
        length=16,
        method="greedy",
        device="cpu",
        finalists="healed",
    )
    out = tmp_path / "out"
    done = prune(asked, output=out, store=tmp_path / "s.sqlite")
    record = read_record(out)
    assert "judged after a repair and 3 steps of healing" in record.choice.remark
    assert 1 <= len(record.choice.sizes[0].finalists) <= 2 == len(done.removed)
    assert record.choice.sizes[0].removed == list(done.removed)
    assert seen and record.identity["finalists"] == "healed"
    assert "--finalists healed" in record.command
    # Inside, the student's weights stand in; all that is written is the full model's own.
    assert torch.isfinite(torch.tensor(record.verdict.after.nll))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"method": "paper"}, "--method paper has none"),
        ({"stream": True}, "leave out --stream"),
        ({"players": "mlp"}, "leave out --players mlp"),
        ({"dtype": "bfloat16"}, "leave out --dtype bfloat16"),
        ({"finalists": "fed"}, "unknown"),
    ],
)
def test_what_cannot_be_healed_is_refused_before_anything_is_loaded(more, said):
    with pytest.raises(UserError, match=said):
        PruneRequest("nowhere", **{"remove": 2, "finalists": "healed", **more}).check()


def test_a_cut_that_nobody_searched_for_is_judged_where_a_text_is_named(whole, text, tmp_path):
    asked = CutRequest(str(whole), layers=(1, 4), held_out=str(text), device="cpu")
    done = cut(asked, output=tmp_path / "out")
    record = read_record(tmp_path / "out")
    verdict = record.verdict
    assert verdict == done.judged.verdict and verdict.grade and verdict.kl > 0
    assert verdict.generation.prompts and record.held_out.sequences > 1
    with pytest.raises(UserError):
        cut(replace(asked, held_out=str(tmp_path / "nothing.txt")), output=tmp_path / "other")
    assert not (tmp_path / "other").exists()
