"""Several replicas answer as one, and a model spread by accelerate answers as if it were whole."""

import copy
import threading

import numpy as np
import pytest
import torch
from accelerate import cpu_offload

from coterie.engine.batch_shape import BatchShape
from coterie.engine.model_game import ModelGame
from coterie.engine.replicas import Replicas, divided_work, replicated
from coterie.game.coalitions import observe_all
from coterie.game.prefixes import prefix_order
from coterie.models.loaded.stack import find_stack
from coterie.testing.tiny import tiny_model

SHAPE = BatchShape(2, 16, 64)


def texts():
    return torch.randint(128, (4, 9), generator=torch.manual_seed(1))


def lively(n_layers=6):
    model = tiny_model("llama", n_layers)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(3)
    return model


def pair():
    model = lively()
    return [ModelGame(m, texts(), shape=SHAPE) for m in (model, copy.deepcopy(model))]


def test_two_replicas_answer_as_one(rng):
    games = pair()
    coalitions = np.unique(rng.random((40, 6)) < 0.6, axis=0)
    expected = observe_all(games[0], coalitions)
    first = games[0].spent.layer_executions
    replicas = Replicas(games)
    seen = np.zeros((len(coalitions), 3), dtype=int)
    for block in replicas.observe(coalitions, np.array([2, 0, 3])):
        corner = np.ix_(block.rows, block.columns)
        seen[corner] += 1
        np.testing.assert_allclose(
            block.observations.nll,
            expected.nll[np.ix_(block.rows, np.array([2, 0, 3])[block.columns])],
            atol=1e-6,
        )
    assert (seen == 1).all()
    ran = replicas.spent.layer_executions - first
    assert first <= ran <= 1.5 * first  # shared work is done twice only where the trie is cut
    assert replicas.spent.seconds > 0


def test_counts_and_seconds_add_up(rng):
    coalitions = np.unique(rng.random((40, 6)) < 0.6, axis=0)
    games = pair()
    replicas = Replicas(games)
    blocks = list(replicas.observe(coalitions, np.arange(4)))
    for name in ("layer_executions", "layer_tokens", "head_tokens", "setup_layer_tokens"):
        parts = [getattr(game.spent, name) for game in games]
        assert getattr(replicas.spent, name) == sum(parts)
    assert replicas.spent.head_tokens == len(coalitions) * 4 * 8  # each is read once by one of them
    assert sum(block.seconds for block in blocks) <= replicas.spent.seconds + 1e-9


def test_a_question_is_cut_finer_the_less_that_costs(rng):
    small = ~np.eye(12, dtype=bool)  # one player gone: the longest prefixes there can be
    small = small[prefix_order(small)]
    large = np.unique(rng.random((2000, 12)) < 0.5, axis=0)
    large = large[prefix_order(large)]
    assert len(divided_work(small, 2)) == 2
    assert len(divided_work(large, 2)) == 8
    for asked in (small, large):
        rows = np.concatenate(divided_work(asked, 2))
        assert rows.tolist() == list(range(len(asked)))


def test_the_first_copy_chooses_the_batch_shape_for_all():
    model = lively()
    copies = [(one, find_stack(one)) for one in (model, copy.deepcopy(model))]
    alone = replicated(copies[:1], texts().numpy(), shape=SHAPE)
    assert isinstance(alone, ModelGame) and alone.shape == SHAPE
    together = replicated(copies, texts().numpy())
    assert isinstance(together, Replicas)
    assert {game.shape for game in together.games} == {together.shape}


def test_what_goes_wrong_at_the_start_is_said_once_and_later_remarks_follow():
    games = pair()
    for game in games:
        game.remarks.append("it is slow")
    replicas = Replicas(games)
    said = len(replicas.remarks)
    for number, game in enumerate(games):
        game.remarks.append(f"replica {number} broke down")
    assert replicas.remarks[:said] == ["it is slow"]
    assert replicas.remarks[said:] == ["replica 0 broke down", "replica 1 broke down"]


def test_stopping_early_leaves_no_thread_behind(rng):
    before = threading.active_count()
    for _ in Replicas(pair()).observe(np.unique(rng.random((40, 6)) < 0.6, axis=0), np.arange(4)):
        break
    assert threading.active_count() == before


def test_a_stop_while_replicas_start_leaves_no_thread_behind(rng, monkeypatch):
    replicas, before = Replicas(pair()), threading.active_count()
    start, started = threading.Thread.start, []

    def interrupted(thread):
        if started:
            raise KeyboardInterrupt
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        observe_all(replicas, np.unique(rng.random((40, 6)) < 0.6, axis=0))
    assert threading.active_count() == before and len(started) == 1


def test_what_fails_on_one_replica_is_raised_to_the_caller(rng):
    games = pair()

    def fail(*_):
        raise RuntimeError("the second device is gone")

    games[1].stack.layers[2].register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="the second device is gone"):
        observe_all(Replicas(games), np.unique(rng.random((40, 6)) < 0.6, axis=0))


def test_replicas_of_different_games_are_refused():
    games = [*pair()[:1], ModelGame(lively(3), texts(), shape=SHAPE)]
    with pytest.raises(ValueError, match="same players and texts"):
        Replicas(games)


def test_a_model_that_accelerate_offloads_has_the_same_values(rng):
    model = lively()
    coalitions = np.unique(rng.random((10, 6)) < 0.6, axis=0)
    expected = observe_all(ModelGame(model, texts(), shape=SHAPE), coalitions)
    for part in [*model.model.layers, model.lm_head]:
        cpu_offload(part, execution_device="cpu")
    assert model.lm_head.weight.is_meta
    hooked = {name for name, module in model.named_modules() if "forward" in vars(module)}
    game = ModelGame(model, texts(), shape=SHAPE)
    assert game.mode == "shared prefixes"
    found = observe_all(game, coalitions)
    np.testing.assert_allclose(found.nll, expected.nll, atol=1e-6)
    np.testing.assert_allclose(found.kl, expected.kl, atol=5e-6)
    assert {n for n, m in model.named_modules() if "forward" in vars(m)} == hooked


def test_a_projection_that_cannot_be_read_runs_once_for_all_of_the_vocabulary(monkeypatch):
    model = tiny_model("llama", 3)
    model.resize_token_embeddings(5000)
    cpu_offload(model.lm_head, execution_device="cpu")
    game = ModelGame(model, texts())
    assert game.mode == "shared prefixes" and game.shape.head_block == 5000
    forward, ran = model.lm_head.forward, []
    monkeypatch.setattr(
        model.lm_head, "forward", lambda *given: (ran.append(len(given[0])), forward(*given))[1]
    )
    observe_all(game, np.array([[True, False, True]]))
    predicted = texts()[:, 1:].numel()
    # The full model twice, for its loss and its entropy; the coalition beside the full model.
    assert sum(ran) == 4 * predicted


def test_a_model_dispatched_to_disk_has_the_same_values(rng, tmp_path):
    lively().save_pretrained(tmp_path / "model")
    coalitions = np.unique(rng.random((10, 6)) < 0.6, axis=0)
    expected = observe_all(ModelGame(lively(), texts(), shape=SHAPE), coalitions)
    device_map = {"model.embed_tokens": "cpu", "model.norm": "cpu", "model.rotary_emb": "cpu"}
    device_map |= {f"model.layers.{i}": "disk" if i % 2 else "cpu" for i in range(6)}
    device_map |= {"lm_head": "cpu"}
    model = type(lively()).from_pretrained(
        tmp_path / "model",
        device_map=device_map,
        offload_folder=tmp_path / "offload",
        dtype=torch.float32,
    )
    game = ModelGame(model, texts(), shape=SHAPE)
    assert game.mode == "shared prefixes"
    np.testing.assert_allclose(observe_all(game, coalitions).nll, expected.nll, atol=1e-6)
