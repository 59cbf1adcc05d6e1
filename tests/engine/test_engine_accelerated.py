"""What makes a GPU faster changes no observation, and what fails is named and left out."""

import numpy as np
import pytest
import torch
from tests.engine import oracle
from tests.engine.oracle import assert_close, plainly, some_coalitions, texts

from coterie.engine import accelerated
from coterie.engine.batch_shape import BatchShape, bytes_per_token
from coterie.engine.fused import ROTATION, Fused, NothingToFuse
from coterie.engine.model_game import ModelGame
from coterie.engine.parts.head import find_head
from coterie.engine.parts.one_pass import read_in_one_pass, rows_read_plainly
from coterie.engine.parts.readings import read_full, read_states
from coterie.errors import UserError
from coterie.game.coalitions import observe_all
from coterie.models.loaded.stack import find_stack

WIDE = BatchShape(32, 256, 128)
WITHOUT_COMPILER = ("ahead", "one-pass", "fused")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", ["llama", "gemma2", "qwen3"])
def test_parts_that_are_on_change_no_observation(family, dtype, rng):
    model, tokens = oracle.model_of(family, 4).to(dtype), texts()
    game = ModelGame(model, tokens, shape=WIDE, accelerated=WITHOUT_COMPILER)
    assert game.walker.ahead and game.walker.batches.rows_read and not game.remarks
    assert isinstance(game.walker.layers.apply, Fused)
    coalitions = some_coalitions(rng, game.stack, 12)
    expected = observe_all(ModelGame(model, tokens, shape=WIDE, accelerated=()), coalitions)
    room = 1e-6 if dtype == torch.float32 else 2e-3
    assert_close(observe_all(game, coalitions), expected, room)
    assert_close(
        observe_all(game, coalitions), plainly(model, game.stack, coalitions, tokens), room
    )


def test_every_block_arrives_where_the_walk_runs_ahead(rng):
    game = ModelGame(oracle.model_of("llama", 4), texts(), shape=WIDE, accelerated=("ahead",))
    coalitions = some_coalitions(rng, game.stack, 16)
    rows = [row for block in game.observe(coalitions, np.arange(2)) for row in block.rows]
    assert sorted(rows) == list(range(len(coalitions)))


def test_a_part_that_fails_is_named_and_not_used(monkeypatch):
    def broken(*args):
        raise RuntimeError("no compiler here\nand more lines")

    monkeypatch.setattr(accelerated, "rows_read_plainly", broken)
    names = WITHOUT_COMPILER
    game = ModelGame(oracle.model_of("llama", 3), texts(), shape=WIDE, accelerated=names)
    assert game.mode == "shared prefixes"
    assert game.walker.batches.rows_read is None and game.walker.ahead
    assert len(game.remarks) == 1
    assert "one-pass" in game.remarks[0] and "no compiler here" in game.remarks[0]


def test_a_part_that_is_wrong_is_named_and_not_used(monkeypatch):
    def wrong(*args):
        return rows_read_plainly(*args) + 0.1

    monkeypatch.setattr(accelerated, "rows_read_plainly", wrong)
    names = ("one-pass",)
    game = ModelGame(oracle.model_of("llama", 3), texts(), shape=WIDE, accelerated=names)
    assert game.walker.batches.rows_read is None
    assert "differ by" in game.remarks[0]


def test_the_environment_names_the_parts(monkeypatch):
    cpu = torch.device("cpu")
    assert accelerated.parts_asked(cpu) == ()
    monkeypatch.setenv(accelerated.VARIABLE, "ahead, one-pass")
    assert accelerated.parts_asked(cpu) == ("ahead", "one-pass")
    monkeypatch.setenv(accelerated.VARIABLE, "none")
    assert accelerated.parts_asked(torch.device("cuda")) == ()
    monkeypatch.setenv(accelerated.VARIABLE, "warp")
    with pytest.raises(UserError, match="warp"):
        accelerated.parts_asked(cpu)


@pytest.mark.parametrize("rows", [1, 7, 1000])
@pytest.mark.parametrize("family", ["llama", "gemma2"])
@torch.no_grad()
def test_one_pass_reads_what_several_passes_read(family, rows):
    model = oracle.model_of(family, 2).to(torch.bfloat16)
    head = find_head(model, find_stack(model), texts())
    states = torch.randn(3, 11, model.config.hidden_size).bfloat16()
    ends, targets = head.normed(states), torch.randint(128, (11,))
    full = read_full(head, ends[0], targets, kl=True, tokens=64, block=128)
    expected = read_states(head, ends, targets, full, tokens=64, block=128)
    found = read_in_one_pass(head, ends, targets, full, rows=rows, rows_read=rows_read_plainly)
    torch.testing.assert_close(found.nll, expected.nll, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.kl, expected.kl, rtol=1e-4, atol=1e-4)
    assert torch.equal(found.agrees, expected.agrees)


def test_the_memory_of_a_layer_is_counted_from_its_weights():
    layer = oracle.model_of("llama", 2).model.layers[0]
    made = sum(p.shape[0] * 4 for p in layer.parameters() if p.dim() == 2)
    assert bytes_per_token(layer) > made


def test_kernels_stand_in_only_while_a_layer_runs():
    model = oracle.model_of("llama", 2)
    layers = find_stack(model).layers
    fused = Fused(layers)
    # Two norms and a gate in each layer, and one rotation for all of them.
    assert [len(replaced) for replaced in fused.replaced.values()] == [3, 3]
    (rotation,) = fused.rotations
    assert getattr(rotation.home, ROTATION) is rotation.plain
    state, tokens = torch.randn(2, 9, model.config.hidden_size), torch.arange(9)[None]
    table = model.model.rotary_emb(state, tokens)
    with torch.no_grad():
        found = fused(layers[0], (state,), {"position_embeddings": table})
        expected = layers[0](state, position_embeddings=table)
    torch.testing.assert_close(found, expected)
    assert getattr(rotation.home, ROTATION) is rotation.plain
    assert not any("forward" in module.__dict__ for module in model.modules())


def test_layers_without_a_known_part_are_left_alone():
    with pytest.raises(NothingToFuse):
        Fused([torch.nn.Linear(3, 3)])
