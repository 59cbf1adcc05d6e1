"""Cut, heal and quantize as one run, in either order; its one report says all of it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from coterie.cli import main
from coterie.errors import UserError
from coterie.verbs.prune import stages as heal_compose
from coterie.verbs.prune.after import After
from coterie.verbs.prune.destination import Destination
from coterie.verbs.prune.request import PruneRequest
from coterie.verbs.prune.stages import prune_and_after
from coterie.verbs.prune.stages_plan import plan_and_after


@pytest.mark.parametrize("name", [None, "auto", "down"])
def test_the_command_of_a_run_of_several_stages_names_its_repair_once(name):
    request = PruneRequest("reference", remove=4, repair=name, quantize="int8")
    told = heal_compose.command(request.cut_alone(), After.of(request), Path("out"))
    assert told.count("--repair") == (name is not None) and "--quantize int8" in told


@pytest.mark.parametrize("first", [False, True], ids=["cut first", "quantized first"])
@pytest.mark.parametrize("steps", [None, 2], ids=["not healed", "healed"])
def test_either_order_ends_in_one_quantized_checkpoint(
    first, steps, whole, text, tmp_path, monkeypatch
):
    for library in ("torchao", "peft"):
        pytest.importorskip(library, reason=f"{library} is not installed")
    request = PruneRequest(
        str(whole),
        remove=2,
        method="one-shot",
        calibration=str(text),
        sequences=4,
        length=32,
        device="cpu",
    )
    after = After("int8", first, steps, str(text))
    to = Destination(tmp_path / "out", store=tmp_path / "store.sqlite")
    planned = plan_and_after(request, after, to).record.plan.stages
    assert not (tmp_path / "out").exists()
    record = prune_and_after(request, after, to).as_json()
    done = [part["what"] for part in record["after"]]
    assert done == ["quantize"] * (first or steps is None) * (steps is None) + (
        [] if steps is None else ["quantize"] * first + ["heal", "quantize"]
    )
    assert "--quantize int8" in record["command"]
    assert json.loads((tmp_path / "out" / "coterie.json").read_text()) == json.loads(
        json.dumps(record)
    )
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert model.config.num_hidden_layers == 4
    assert model.config.quantization_config is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "store.sqlite"]
    # The plan had named every stage.
    assert [stage.what for stage in planned] == done
    assert all(stage.seconds > 0 and stage.disk_bytes > 0 for stage in planned)
    # Asked for again it is told again; asked otherwise the folder is taken.
    monkeypatch.setattr(heal_compose, "_through", lambda run: pytest.fail("run again"))
    assert prune_and_after(request, after, to).as_json() == json.loads(json.dumps(record))
    with pytest.raises(UserError, match="not empty"):
        prune_and_after(replace(request, remove=1), after, to)
    with pytest.raises(UserError, match="not empty"):
        prune_and_after(request, replace(after, heal_steps=3), to)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["prune", "MODEL", "--remove", "1", "--quantize", "int3"], "int8"),
        (["prune", "MODEL", "--remove", "1", "--quantize-first"], "--quantize int8"),
        (["prune", "MODEL", "--remove", "1", "--heal", "0"], "above zero"),
        (["quantize", "MODEL", "--scheme", "int4", "--device", "cpu"], "cpu there is int8"),
        (["heal", "MODEL"], "--teacher"),
        (["heal", "MODEL", "--mode", "none"], "full"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(arguments, said, whole, tmp_path, capsys):
    words = [str(whole) if word == "MODEL" else word for word in arguments]
    assert main([*words, "--output", str(tmp_path / "out")]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("coterie: ") and said in line
    assert not list(tmp_path.iterdir())
