"""Whether llama.cpp continues a text as transformers does, where a binding of it is at hand."""

import json
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from coterie.models.cutting.verify import probe_tokens
from coterie.models.files.sources import Source
from coterie.models.loaded.load import load_model
from coterie.verbs.export import binding_script
from coterie.verbs.export.converter import run_python, run_script
from coterie.verbs.export.result import ExportError

BINDING = "xllamacpp"

_NEW, _LENGTH = 20, 16
"""Tokens that are compared, and tokens that are continued."""

_FAR = 0.25
"""Difference of a log-probability that rounding weights to 16 bits does not explain."""

_NEAR = 0.1
"""Nats between the two likeliest tokens under which rounding may decide."""


def check_binding(python: str | None) -> None:
    """Refuse a Python that cannot compare, before anything is converted; None is not asked.

    Raises:
        ExportError: it does not run, or does not import the binding.
    """
    if python is None:
        return
    failed = f"--environment {python} does not import {BINDING}"
    run_python(["-c", f"import {BINDING}"], failed, python)


def same_tokens(file: Path, source: Source, python: str | None, work: Path) -> str:
    """Compare greedy tokens of a GGUF file with those of the checkpoint in transformers, float32.

    Args:
        file: The GGUF file.
        source: The checkpoint it was made of.
        python: A Python that has the binding; None is this one.
        work: A folder for files in passing.

    Returns:
        What was found, or that there is no binding.

    Raises:
        ExportError: that Python has no binding, it does not load the file, or tokens differ.
    """
    if python is None and find_spec(BINDING) is None:
        return (
            f"tokens were not compared: no {BINDING} in this Python (pip install {BINDING}, or name"
            " another Python with --environment)"
        )
    prompts = probe_tokens(source)[:, :_LENGTH].tolist()
    (work / "prompts.json").write_text(json.dumps({"prompts": prompts, "new": _NEW}))
    words = [file, work / "prompts.json", work / "out.json"]
    script = Path(binding_script.__file__)
    run_script(script, words, f"{file.name} does not run in {BINDING}", python)
    answer = json.loads((work / "out.json").read_text())
    model = load_model(source, dtype=torch.float32, device="cpu")
    differences = []
    for ids, theirs in zip(prompts, answer["generated"], strict=True):
        ours = _continued(model, torch.tensor([ids]))
        differences += _compared(theirs, ours, file.name)
    n_tokens = len(differences)
    return (
        f"{answer['version']} gives the tokens of transformers: {n_tokens} compared, log-"
        f"probabilities within {max(differences, default=0.0):.1e}"
    )


def _continued(model: PreTrainedModel, ids: Tensor) -> list[tuple[int, float, float]]:
    """Greedy tokens, each with its log-probability and how far the next likeliest is behind."""
    found = []
    with torch.inference_mode():
        for _ in range(_NEW):
            logits = model(input_ids=ids, use_cache=False).logits[0, -1].float()
            values, tokens = torch.log_softmax(logits, -1).topk(2)
            found.append((int(tokens[0]), float(values[0]), float(values[0] - values[1])))
            ids = torch.cat([ids, tokens[None, :1]], dim=1)
    return found


def _compared(
    theirs: dict[str, list[float]], ours: list[tuple[int, float, float]], name: str
) -> list[float]:
    """Differences of log-probabilities until rounding decides otherwise."""
    differences = []
    told = theirs["logprobs"]
    if len(told) != len(theirs["tokens"]):
        # Half a character is told together with the next token, so that places no longer agree.
        told = [expected for _, expected, _ in ours]
    pairs = zip(theirs["tokens"], told, ours, strict=True)
    for place, (token, logprob, (own, expected, ahead)) in enumerate(pairs):
        if token != own and ahead < _NEAR:
            break
        if token != own or abs(logprob - expected) > _FAR:
            raise ExportError(
                f"{name} gives other tokens in llama.cpp than the checkpoint in transformers, from"
                f" number {place + 1} on: it reads the layers otherwise"
            )
        differences.append(abs(logprob - expected))
    return differences
