"""Train the reference model: `python -m tools.train_reference --work DIR`.

A 16-layer Llama of 6.2 M parameters learns the standard library (see `text.py`). One process, one
CPU thread by default, about two hours; killed at any moment it goes on from its last checkpoint. No
layer-drop and nothing else that knows of pruning. Matrices of the layers are trained by Muon
(orthogonalised momentum, Jordan et al. 2024), everything else by AdamW; the learning rate is
constant after a short warm-up and falls linearly to zero over the last part of the run.

The training set is the standard library of the Python that runs this script, so other versions of
Python give slightly different weights. `weights/README.md` records the run behind those that ship.
`train` is the recipe without the text, for other small models.
"""

import argparse
import json
import math
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from coterie.models.reference.text import stdlib_documents, training_documents

END = "<|endoftext|>"
CONTEXT = 512
CONFIG = LlamaConfig(
    vocab_size=4096,
    hidden_size=160,
    intermediate_size=512,
    num_hidden_layers=16,
    num_attention_heads=5,
    num_key_value_heads=5,
    max_position_embeddings=CONTEXT,
    tie_word_embeddings=True,
    bos_token_id=0,
    eos_token_id=0,
    rms_norm_eps=1e-5,
)


Documents = list[tuple[str, str]]
"""Names and texts."""


def train_tokenizer(texts: list[str], config: LlamaConfig) -> PreTrainedTokenizerFast:
    """Byte-level BPE over the training text; `<|endoftext|>` is token 0 and separates documents."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END,
        eos_token=END,
        model_max_length=config.max_position_embeddings,
    )


class Batches:
    """Windows of `length` tokens, documents shuffled anew each epoch; any step at any time."""

    def __init__(self, documents: list[np.ndarray], length: int, size: int, seed: int):
        self.documents, self.length, self.size, self.seed = documents, length, size, seed
        self.per_epoch = sum(map(len, documents)) // length // size
        self._epoch, self._windows = -1, np.empty(0)

    def __getitem__(self, step: int) -> torch.Tensor:
        epoch, index = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            rng = np.random.default_rng([self.seed, epoch])
            stream = np.concatenate(
                [self.documents[i] for i in rng.permutation(len(self.documents))]
            )
            whole = len(stream) // self.length * self.length
            windows = stream[:whole].reshape(-1, self.length)
            self._epoch, self._windows = epoch, rng.permutation(windows)
        batch = self._windows[index * self.size : (index + 1) * self.size]
        return torch.from_numpy(batch.astype(np.int64))


class Muon(torch.optim.Optimizer):
    """Momentum orthogonalised by Newton-Schulz; matrices of one shape are done at once."""

    def __init__(self, params, lr: float, momentum: float = 0.95):
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            by_shape = defaultdict(list)
            for parameter in group["params"]:
                by_shape[parameter.shape].append(parameter)
            for (rows, columns), parameters in by_shape.items():
                updates = []
                for parameter in parameters:
                    buffer = self.state[parameter].setdefault(
                        "momentum", torch.zeros_like(parameter)
                    )
                    buffer.lerp_(parameter.grad, 1 - group["momentum"])
                    updates.append(parameter.grad.lerp(buffer, group["momentum"]))
                update = _orthogonalise(torch.stack(updates))
                update *= -group["lr"] * math.sqrt(max(1.0, rows / columns))
                for parameter, change in zip(parameters, update, strict=True):
                    parameter.add_(change)


def _orthogonalise(stack: torch.Tensor) -> torch.Tensor:
    wide = stack.shape[-1] >= stack.shape[-2]
    x = stack if wide else stack.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x if wide else x.mT


def learning_rate(step: int, steps: int, warmup: int = 40, decay: float = 0.5) -> float:
    """Factor on the peak rate: up over `warmup` steps, level, to zero over the last `decay`."""
    return min(1.0, (step + 1) / warmup, (steps - step) / (decay * steps))


@torch.no_grad()
def held_out_loss(model: LlamaForCausalLM, windows: torch.Tensor) -> float:
    """Mean negative log-likelihood, nats per token."""
    losses = [model(w[None], labels=w[None]).loss for w in windows]
    return float(torch.stack(losses).mean())


def arguments(description: str, tokens: float, batch: int) -> argparse.ArgumentParser:
    """The options of a training script."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--work", type=Path, required=True, help="folder for checkpoints; resumed if it has one"
    )
    parser.add_argument(
        "--tokens", type=float, default=tokens, help=f"training tokens in all (default {tokens:g})"
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    parser.add_argument("--batch", type=int, default=batch, help="sequences per step")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--export", action="store_true", help="write WORK/model from the last checkpoint and stop"
    )
    return parser


def main() -> None:
    """Train the reference model and write it to WORK/model."""
    options = arguments(__doc__.split("\n\n")[0], tokens=5e6, batch=8).parse_args()
    train(CONFIG, list(training_documents()), stdlib_documents("verdict"), options)


def train(
    config: LlamaConfig, training: Documents, held_out: Documents, options: argparse.Namespace
) -> None:
    """Train a Llama with its own tokenizer, saving every 50 steps; the end goes to WORK/model."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    options.work.mkdir(parents=True, exist_ok=True)
    length = config.max_position_embeddings

    texts = [text for _, text in training]
    tokenizer = _tokenizer(options.work, texts, config)
    documents = [np.array([0, *ids], np.uint16) for ids in tokenizer(texts)["input_ids"]]
    batches = Batches(documents, length, options.batch, options.seed)
    judges = _held_out_windows(tokenizer, held_out, length)
    steps = int(options.tokens / (options.batch * length))

    model = LlamaForCausalLM(config)
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "layers" in n]
    rest = [p for n, p in model.named_parameters() if not (p.ndim == 2 and "layers" in n)]
    optimizers = [
        Muon(matrices, lr=0.02),
        torch.optim.AdamW(rest, lr=4e-3, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    start, seconds = _load(options.work, model, optimizers)
    print(
        f"{sum(map(len, documents)):,} training tokens, {steps} steps, from step {start}",
        flush=True,
    )
    if not options.export:
        _descend(model, batches, judges, optimizers, (start, steps), seconds, options.work)
    nn.Module.to(model, torch.bfloat16)
    model.save_pretrained(options.work / "model")
    tokenizer.save_pretrained(options.work / "model")


def _descend(model, batches, judges, optimizers, span, seconds, work) -> None:
    start, steps = span
    peaks = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    compiled = torch.compile(model)
    clock = time.monotonic()
    for step in range(start, steps):
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * learning_rate(step, steps)
        batch = batches[step]
        loss = compiled(batch, labels=batch, use_cache=False).loss
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if step % 10 == 0:
            spent = seconds + time.monotonic() - clock
            rate = (step - start + 1) * batches.size * batches.length / (time.monotonic() - clock)
            print(
                f"step {step}/{steps} loss {loss.item():.4f} {rate:.0f} tokens/s {spent:.0f} s",
                flush=True,
            )
        done, spent = step + 1, seconds + time.monotonic() - clock
        if done % 100 == 0 or done == steps:
            nats = held_out_loss(model, judges)
            print(f"step {done} held-out {nats:.4f} nats, {math.exp(nats):.2f}", flush=True)
        if done % 50 == 0 or done == steps:
            _save(work, model, optimizers, done, spent)


def _tokenizer(work: Path, texts: list[str], config: LlamaConfig) -> PreTrainedTokenizerFast:
    path = work / "tokenizer"
    if not path.is_dir():
        train_tokenizer(texts, config).save_pretrained(path)
    return PreTrainedTokenizerFast.from_pretrained(path)


def _held_out_windows(
    tokenizer: PreTrainedTokenizerFast, documents: Documents, length: int, count: int = 24
) -> torch.Tensor:
    ids = [[0, *ids] for ids in tokenizer([text for _, text in documents])["input_ids"]]
    windows = [i[:length] for i in ids if len(i) > length]
    return torch.tensor(windows[:: max(1, len(windows) // count)])


def _save(work: Path, model, optimizers, step: int, seconds: float) -> None:
    names = {parameter: name for name, parameter in model.named_parameters()}
    tensors = {name: p.detach().clone() for name, p in model.named_parameters()}
    for optimizer in optimizers:
        for parameter, state in optimizer.state.items():
            for key, value in state.items():
                tensors[f"{names[parameter]}|{key}"] = torch.as_tensor(value).clone()
    partial = work / "checkpoint.partial"
    save_file(tensors, partial, {"progress": json.dumps({"step": step, "seconds": seconds})})
    partial.replace(work / "checkpoint.safetensors")


def _load(work: Path, model, optimizers) -> tuple[int, float]:
    from safetensors import safe_open

    path = work / "checkpoint.safetensors"
    if not path.is_file():
        return 0, 0.0
    tensors = load_file(path)
    owner = {p: optimizer for optimizer in optimizers for p in optimizer.param_groups[0]["params"]}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(tensors[name])
            prefix = f"{name}|"
            state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            owner[parameter].state[parameter].update(state)
    with safe_open(path, "pt") as file:
        progress = json.loads(file.metadata()["progress"])
    return progress["step"], progress["seconds"]


if __name__ == "__main__":
    main()
