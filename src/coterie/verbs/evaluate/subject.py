"""A checkpoint that is scored: its model and its tokenizer, loaded when they are asked for."""

import json
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import TYPE_CHECKING

import torch

from coterie.game.coalitions import Vector
from coterie.models.files.sources import Source
from coterie.models.loaded.load import load_model, load_tokenizer
from coterie.plain import Json
from coterie.quantization.checkpoint import load_quantized
from coterie.scores.task_scores import TaskScores
from coterie.scores.tasks import SCORER, task_fingerprint
from coterie.texts.sets import TextSet
from coterie.verbs.evaluate.request import EvaluateRequest
from coterie.verbs.shared.defaults import name_of
from coterie.verbs.shared.progress import Progress
from coterie.verbs.shared.provenance import versions

if TYPE_CHECKING:
    from lm_eval.api.task import Task
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(eq=False)
class Subject:
    """One of the models: its weights are loaded when the first score is not known yet."""

    source: Source
    dtype: torch.dtype
    device: torch.device
    progress: Progress
    as_saved: bool = False
    """Load a quantized checkpoint in its own dtypes, as it was judged."""
    losses: dict[str, tuple[TextSet, Vector]] = field(default_factory=dict)
    tasks: dict[str, list[TaskScores]] = field(default_factory=dict)

    @cached_property
    def tokenizer(self) -> "PreTrainedTokenizerBase":
        """The model's tokenizer."""
        return load_tokenizer(self.source)

    @cached_property
    def model(self) -> "PreTrainedModel":
        """The model, loaded."""
        if self.is_quantized:
            self.progress.say(f"loading {self.source.name} as it was saved on {self.device}")
            return load_quantized(self.source, self.device)
        self.progress.say(f"loading {self.source.name} in {name_of(self.dtype)} on {self.device}")
        return load_model(self.source, dtype=self.dtype, device=self.device)

    @property
    def is_quantized(self) -> bool:
        """Whether it is loaded in the dtypes it was saved in."""
        return self.as_saved and "quantization_config" in self.source.raw_config()

    @cached_property
    def tokenizer_identity(self) -> str:
        """Of the tokenizer as it came: scoring changes how it pads."""
        return tokenizer_identity(self.tokenizer)

    @cached_property
    def writing(self) -> dict[str, Json]:
        """What decides how it is asked to write and where it ends, beside weights and tokenizer."""
        file = self.source.folder / "generation_config.json"
        template = getattr(self.tokenizer, "chat_template", None)
        named = self.source.raw_config().get("eos_token_id")
        # A template names special tokens by their text.
        asked = json.dumps(
            [template, self.tokenizer.special_tokens_map], sort_keys=True, default=str
        )
        return {
            "chat": sha256(asked.encode()).hexdigest() if template else "",
            "ends": json.dumps([self.tokenizer.eos_token_id, named]),
            "generation_config": sha256(file.read_bytes()).hexdigest() if file.is_file() else "",
        }

    def release(self) -> None:
        """Free the model."""
        # A cached property is gone with its entry, and would be loaded anew if asked.
        self.__dict__.pop("model", None)

    def identity(self) -> dict[str, Json]:
        """What every score of this model depends on."""
        # Only the versions that can change a number.
        known = versions()
        return {
            "weights": self.source.fingerprint(),
            "dtype": "as saved" if self.is_quantized else name_of(self.dtype),
            "device": self.device.type,
            "versions": {name: known[name] for name in ("torch", "transformers")},
        }


def score_key(
    request: EvaluateRequest, subject: Subject, name: str, task: "Task"
) -> dict[str, Json]:
    """All that the scores of a task depend on; less would let one answer for another.

    Args:
        request: How many items are asked, and what stands before a text.
        subject: The model.
        name: Of the task.
        task: Its items.
    """
    return {
        **subject.identity(),
        "kind": "task",
        "task": name,
        "items": task_fingerprint(task, request.limit),
        "limit": request.limit,
        "bos": request.bos_policy(),
        "tokenizer": subject.tokenizer_identity,
        "writing": subject.writing,
        "scorer": SCORER,
    }


def tokenizer_identity(tokenizer: "PreTrainedTokenizerBase") -> str:
    """SHA-256 of all that a tokenizer is."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    text = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab())
    return sha256(text.encode()).hexdigest()
