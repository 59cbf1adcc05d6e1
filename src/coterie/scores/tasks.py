"""Zero-shot tasks through lm-evaluation-harness: scores per item, errors, paired differences.

Two checkpoints answer the same items, so their difference is taken item by item: its standard error
is the one to read, not the two errors of the two scores.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np

from coterie.game.coalitions import Vector
from coterie.scores.errors import TaskError
from coterie.scores.task_definitions import quiet_harness
from coterie.scores.task_scores import TaskScores
from coterie.texts.packing import BosPolicy

if TYPE_CHECKING:
    from lm_eval.api.task import Task
    from lm_eval.models.huggingface import HFLM
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


SCORER = 2
"""Raised whenever items are put or scored otherwise, so that old scores answer no new question."""


@dataclass(frozen=True)
class TaskSettings:
    """How the items of a task are put to a model.

    Attributes:
        limit: Only the first items; None asks all.
        batch_size: Texts in one forward pass.
        bos: Whether a text starts with BOS; ``auto`` as the tokenizer does by itself.
        context: The most tokens the model reads at once; what its config says when None.
        first: Items before this one are left out; the limit counts from the first of all.
    """

    limit: int | None = None
    batch_size: int = 8
    bos: BosPolicy = "auto"
    context: int | None = None
    first: int = 0


def use_zero_shots(task: "Task") -> None:
    """Have a task asked without worked examples, unless its definition wants some."""
    if task.get_config("num_fewshot") is None:
        task.set_config(key="num_fewshot", value=0)
    task.set_fewshot_seed(seed=0)


def score_tasks(
    tasks: Mapping[str, "Task"],
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    settings: TaskSettings | None = None,
) -> list[TaskScores]:
    """Score a model on tasks, one after the other, in the order they are given.

    Args:
        tasks: From `load_tasks`; they may be scored again with another model.
        model: Any causal LM, whole, cut, or routed around some of its layers.
        tokenizer: The model's.
        settings: How they are asked; by default every item, eight texts at a time.

    Raises:
        TaskError: a limit below 1, or a task without a score per item.
    """
    settings = settings or TaskSettings()
    if settings.limit is not None and settings.limit < 1:
        raise TaskError(
            f"a limit of {settings.limit} items leaves nothing to score: give at least 1"
        )
    from lm_eval import evaluator

    lm, counter = language_model(model, tokenizer, settings)
    results = []
    for name, task in tasks.items():
        use_zero_shots(task)
        counter.truncated.clear()
        # Bootstrapped errors are not wanted: errors come from the scores of the items.
        with quiet_harness(), _room_to_write(task, lm.max_length):
            answer = evaluator.evaluate(
                lm,
                task_dict={"tasks": {name: task}, "groups": {}, "group_map": {}},
                limit=settings.limit,
                bootstrap_iters=0,
                log_samples=True,
                apply_chat_template=_through_template(task, tokenizer),
            )
        provenance: dict[str, str | int | None] = {
            "task_version": str(answer["versions"].get(name)),
            "lm_eval": version("lm_eval"),
            "shots": task.get_config("num_fewshot"),
            "bos": settings.bos,
            "limit": settings.limit,
        }
        samples = answer["samples"][name]
        results.append(_scores(name, task, samples, len(counter.truncated), provenance))
    return results


@contextmanager
def _room_to_write(task: "Task", context: int) -> Iterator[None]:
    """Inside this block a task that is decoded asks for no more tokens than half of what fits."""
    asked = task.get_config("generation_kwargs")
    before = asked.get("max_gen_toks") if isinstance(asked, dict) else None
    if not isinstance(before, int) or before <= context // 2:
        yield
        return
    # Put back: what a task asks is part of what its scores are kept under.
    asked["max_gen_toks"] = max(1, context // 2)
    try:
        yield
    finally:
        asked["max_gen_toks"] = before


def _through_template(task: "Task", tokenizer: "PreTrainedTokenizerBase") -> bool:
    """What is decoded from a chat model is asked as its users would; likelihoods never are."""
    generates = task.get_config("output_type") == "generate_until"
    return generates and bool(getattr(tokenizer, "chat_template", None))


def task_fingerprint(task: "Task", limit: int | None = None) -> str:
    """SHA-256 of all that decides a task's score but the model: definition, items and their order.

    Args:
        limit: Only the first items count.
    """
    from itertools import islice

    def plain(value: object) -> str:
        return getattr(value, "__qualname__", type(value).__name__)  # functions have no content

    definition = {
        **task.config.to_dict(),  # type: ignore[attr-defined]
        "num_fewshot": task.get_config("num_fewshot") or 0,  # scoring writes it down
        "version": task.VERSION,
        "lm_eval": version("lm_eval"),
    }
    text = json.dumps(definition, sort_keys=True, default=plain)
    text = re.sub(r" at 0x[0-9a-f]+", "", text)  # where an object lies in memory says nothing
    # The items themselves count too: a data set may change under one name.
    total = hashlib.sha256(text.encode())
    for doc in islice(task.eval_docs, limit):
        total.update(json.dumps(doc, sort_keys=True, default=str).encode() + b"\0")
    return total.hexdigest()


def _scores(
    name: str,
    task: "Task",
    samples: list[dict[str, object]],
    truncated: int,
    provenance: Mapping[str, str | int | None],
) -> TaskScores:
    first = samples[0]["filter"]  # a task may read one answer in several ways
    samples = [sample for sample in samples if sample["filter"] == first]
    samples.sort(key=lambda sample: int(str(sample["doc_id"])))
    names = [str(metric) for metric in samples[0]["metrics"]]  # type: ignore[attr-defined]
    plain = [m for m in names if all(isinstance(s[m], bool | int | float) for s in samples)]
    scores = {m: np.array([s[m] for s in samples], dtype=np.float64) for m in plain}
    if not scores:
        raise TaskError(
            f"task '{name}' gives no score per item ({', '.join(names)} are of the whole text), "
            "so it has no standard error: choose another task"
        )
    chance = None
    if task.get_config("output_type") == "multiple_choice":
        answers = [_answers(sample) for sample in samples]
        right = [right_choices(task, sample["doc"]) for sample in samples]
        both = list(zip(answers, right, strict=True))
        scores["margin"] = np.array([margin(*pair) for pair in both])
        chance = float(np.mean([len(its) / len(all_) for all_, its in both]))
    items = tuple(str(sample["doc_hash"]) for sample in samples)
    return TaskScores(
        name, scores, items, truncated=truncated, provenance=provenance, chance=chance
    )


def _answers(sample: dict[str, object]) -> Vector:
    """Log-likelihood of every choice of an item, nats, ``(n_choices,)``."""
    return np.array([answer[0] for answer in sample["filtered_resps"]])  # type: ignore[attr-defined]


def margin(likelihoods: Vector, right: list[int]) -> float:
    """Log-likelihood of the right choice less that of the best wrong one, nats."""
    # An item may have several right answers: the best of each side is compared.
    wrong = np.delete(likelihoods, right)
    return float(likelihoods[right].max() - wrong.max()) if wrong.size else float("nan")


def right_choices(task: "Task", doc: object) -> list[int]:
    """Which choices of an item are right."""
    # Where the contexts are the choices (WinoGrande), the harness keeps the answer in the text.
    gold = task.doc_to_text(doc) if task.multiple_input else task.doc_to_target(doc)  # type: ignore[attr-defined]
    if isinstance(gold, str):
        choices = task.doc_to_choice(doc)  # type: ignore[attr-defined]
        gold = choices.index(gold) if gold in choices else int(gold)
    return gold if isinstance(gold, list) else [gold]


@dataclass
class _Counter:
    """Contexts of the current task that were cut to fit the model."""

    truncated: set[str] = field(default_factory=set)


def language_model(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    settings: TaskSettings,
) -> tuple["HFLM", _Counter]:
    """The harness's view of a model, and the count of the texts it had to cut.

    Args:
        model: In evaluation mode.
        tokenizer: Turns text into token ids.
        settings: How items are asked.
    """
    from lm_eval.models.huggingface import HFLM

    counter = _Counter()

    class Counting(HFLM):
        """The harness cuts a text that is too long without a number; here it is counted."""

        def _loglikelihood_tokens(
            self,
            requests: list[tuple[tuple[str, str], list[int], list[int]]],
            disable_tqdm: bool = False,
            override_bs: int | None = None,
        ) -> list[tuple[float, bool]]:
            counter.truncated.update(
                text[0]
                for text, context, continuation in requests
                if len(context) + len(continuation) > self.max_length + 1
            )
            return super()._loglikelihood_tokens(requests, disable_tqdm, override_bs)

    add_bos = {"auto": None, "always": True, "never": False}[settings.bos]
    with quiet_harness():
        lm = Counting(
            pretrained=model,
            tokenizer=tokenizer,  # type: ignore[arg-type]
            backend="causal",
            batch_size=settings.batch_size,
            add_bos_token=add_bos,
            max_length=settings.context,
        )
    return lm, counter
