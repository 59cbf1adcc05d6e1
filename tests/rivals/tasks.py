"""Tasks on tiny real models, and the states of a Llama computed the plain way."""

import copy
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from coterie.engine.cost import Spent
from coterie.engine.model_game import ModelGame
from coterie.game.designs import NO_ONE
from coterie.game.utilities import floor_nll
from coterie.models.loaded.stack import Stack, find_stack
from coterie.rivals.interface import Task


def llama(n_layers: int = 8, **fields: int) -> LlamaForCausalLM:
    """A random Llama whose layers do something."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=60,
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=n_layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32,
        initializer_range=0.15,
        **fields,
    )
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():  # norms of a trained model are not all ones
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.5)
    return model


def gpt2(n_layers: int = 4) -> GPT2LMHeadModel:
    """A random GPT-2, whose matrices are stored the other way round and have biases."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=60, n_embd=24, n_layer=n_layers, n_head=4, n_positions=32, initializer_range=0.15
    )
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model


def make_task(
    model: PreTrainedModel,
    removals: tuple[int, ...],
    *,
    locked: np.ndarray = NO_ONE,
    n_texts: int = 12,
    seed: int = 0,
) -> Task:
    """Everything a rival is given, without a store."""
    tokens = np.random.default_rng(1).integers(0, 60, size=(n_texts, 12))
    games: list[ModelGame] = []

    def play(stack: Stack) -> ModelGame:
        games.append(ModelGame(model, tokens, stack=stack))
        return games[-1]

    def spent() -> Spent:
        return sum((game.spent for game in games), Spent())

    stack = find_stack(model)
    rng = np.random.default_rng(seed)
    documents = np.arange(n_texts) // 2
    game = play(stack)
    return Task(
        model, stack, tokens, documents, game, play, spent, floor_nll(60), removals, rng, locked
    )


def plain_states(model: LlamaForCausalLM, tokens: np.ndarray) -> list[Tensor]:
    """States before each layer and after the last, by calling the layers one after the other."""
    ids = torch.from_numpy(tokens)
    with torch.no_grad():
        state = model.model.embed_tokens(ids)
        places = torch.arange(ids.shape[1])[None]
        rotary = model.model.rotary_emb(state, places)
        states = [state]
        mask = torch.full((ids.shape[1],) * 2, -torch.inf).triu(1)[None, None]
        for layer in model.model.layers:
            state = layer(state, attention_mask=mask, position_embeddings=rotary)
            states.append(state)
    return states


def nll(model: PreTrainedModel, tokens: np.ndarray) -> float:
    """Mean loss in nats per token."""
    ids = torch.from_numpy(tokens)
    with torch.no_grad():
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1].double()
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()).item()


def cut(model: LlamaForCausalLM, coalition: np.ndarray) -> LlamaForCausalLM:
    """A copy without some layers."""
    made = copy.deepcopy(model)
    made.model.layers = torch.nn.ModuleList(
        layer for layer, kept in zip(made.model.layers, coalition, strict=True) if kept
    )
    return made


def again(task: Task, removals: tuple[int, ...], seed: int = 0) -> Task:
    """The same task for other numbers of layers, with chance set anew."""
    return replace(task, removals=removals, rng=np.random.default_rng(seed))
