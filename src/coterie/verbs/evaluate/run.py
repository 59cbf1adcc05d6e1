"""`evaluate`: what models score on held-out text and zero-shot tasks, side by side.

Every score is kept in the store under the weights, the tokens or items, and all else it depends on,
so it is measured once and can never answer for another model.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from coterie.errors import UserError
from coterie.game.coalitions import Vector
from coterie.models.files.sources import resolve
from coterie.models.loaded.load import pick_device
from coterie.report.schema.evaluate import Judgement
from coterie.scores.perplexity import PRESETS
from coterie.scores.sequence_losses import sequence_losses
from coterie.scores.task_definitions import PAPER_TASKS, load_groups
from coterie.scores.task_scores import TaskScores
from coterie.scores.tasks import TaskSettings, score_tasks
from coterie.store.observations import Store
from coterie.store.sqlite_file import default_path, noted_in
from coterie.texts.sets import TextSet
from coterie.verbs.evaluate.as_judged import JudgingTexts
from coterie.verbs.evaluate.near import Nearness
from coterie.verbs.evaluate.request import EvaluateRequest
from coterie.verbs.evaluate.significance import significance
from coterie.verbs.evaluate.subject import Subject, score_key
from coterie.verbs.evaluate.table import judgement
from coterie.verbs.evaluate.windows import held_out_windows, texts_asked
from coterie.verbs.shared.defaults import check_rows, context_of, dtype_of, name_of
from coterie.verbs.shared.entry import public
from coterie.verbs.shared.names import told_apart
from coterie.verbs.shared.progress import NoProgress, Progress
from coterie.verbs.shared.provenance import bare, machine, versions

if TYPE_CHECKING:
    from lm_eval.api.task import Task


Texts = JudgingTexts | tuple[str, ...]
"""What is read: what judged the first model, or texts by their names."""

AS_JUDGED = "as judged"
"""The name of the texts that judged the first model, among those of a model's losses."""


@public
def evaluate(
    request: EvaluateRequest,
    *,
    store: Path | str | None = None,
    progress: Progress | None = None,
) -> Judgement:
    """Score models on texts and tasks; what the store knows is not measured again.

    >>> from coterie import EvaluateRequest, evaluate
    >>> asked = EvaluateRequest(("reference",), length=16, sequences=4)
    >>> found = evaluate(asked, store=folder / "store.sqlite")
    >>> [(row.name, row.perplexity[0].sequences) for row in found.models]
    [('reference', 4)]

    Args:
        store: SQLite file; None is the user's cache.
        request: Which models, on which texts and tasks.
        progress: Shows what is being done.

    Raises:
        UserError: something asked cannot be done, in one line.
    """
    request.check()
    progress = progress or NoProgress()
    subjects, texts, groups = _asked(request, store, progress)
    first_text = [] if not texts else [_first_text(request, one, texts) for one in subjects]
    with Store(default_path() if store is None else store) as book:
        nearness = Nearness.of(subjects, first_text, book) if first_text else None
        for subject in subjects:
            _score(request, subject, texts, groups, book)
            if nearness is not None:
                nearness.see(subject)
            # One model at a time is in memory; its scores are all that is needed from here on.
            subject.release()
        near = {} if nearness is None else nearness.finish()
    report = _judgement(request, subjects)
    models = [replace(row, beside=near.get(row.name)) for row in report.models]
    scores = [
        (one.source.name, {score.task: score for group in one.tasks.values() for score in group})
        for one in subjects
    ]
    # Differences between models are tested; one model has none.
    tested = significance(scores, request.margin, request.seed)
    return replace(report, models=models, significance=tested)


def perplexities(
    request: EvaluateRequest,
    *,
    store: Path | str | None = None,
    progress: Progress | None = None,
) -> Judgement:
    """Scores of every model by itself: none is held against another.

    Args:
        request: Which models, on which texts and tasks.
        store: SQLite file; None is the user's cache.
        progress: Shows what is being done.
    """
    request.check()
    subjects, texts, groups = _asked(request, store, progress or NoProgress())
    with Store(default_path() if store is None else store) as book:
        for subject in subjects:
            _score(request, subject, texts, groups, book)
            subject.release()
    return _judgement(request, subjects)


def _asked(
    request: EvaluateRequest, store: Path | str | None, progress: Progress
) -> "tuple[list[Subject], Texts, Mapping[str, Mapping[str, Task]]]":
    """The models, the texts and the tasks; no weight is loaded."""
    if request.logs:
        raise UserError("--logs compares files and scores no model: call compare_logs")
    found = [
        resolve(model, trust_remote_code=request.trust_remote_code) for model in request.models
    ]
    sources = told_apart(found, request.models)
    texts: Texts = texts_asked(request, sources)
    if request.repeats_judging:
        texts = JudgingTexts.of(sources[0], store, progress)
    groups = load_groups(_spelled(request.tasks), request.tasks_dir) if request.tasks else {}
    device = pick_device(request.device)
    dtype, _ = dtype_of(request.dtype, device)
    as_saved = request.repeats_judging
    subjects = [Subject(source, dtype, device, progress, as_saved) for source in sources]
    return subjects, texts, groups


def _first_text(request: EvaluateRequest, subject: Subject, texts: Texts) -> TextSet:
    """The first text, as one model reads it."""
    if isinstance(texts, JudgingTexts):
        return texts.read(subject.source, subject.tokenizer)
    return held_out_windows(request, subject.tokenizer, texts[0])


def _judgement(request: EvaluateRequest, subjects: list[Subject]) -> Judgement:
    """The scores as one table."""
    first = subjects[0]
    return Judgement(
        kind="evaluate",
        command=request.command(),
        dtype=name_of(first.dtype),
        device=str(first.device),
        models=judgement([(one.source, one.losses, one.tasks) for one in subjects]),
        versions=versions(),
        machine=machine(torch.get_num_threads(), str(first.device)),
    )


def _score(
    request: EvaluateRequest,
    subject: Subject,
    texts: Texts,
    groups: "Mapping[str, Mapping[str, Task]]",
    book: Store,
) -> None:
    """Every score of one model, from the store or measured now."""
    if isinstance(texts, JudgingTexts):
        judging = texts.read(subject.source, subject.tokenizer)
        losses = _losses_on(subject, judging, "what judged it", book)
        subject.losses[AS_JUDGED] = judging, losses
        texts = ()
    for text in texts:
        subject.losses[text] = _on_text(request, subject, text, book)
    for name, members in groups.items():
        subject.tasks[name] = [
            _on_task(request, subject, task, loaded, book) for task, loaded in members.items()
        ]


def _on_text(
    request: EvaluateRequest, subject: Subject, text: str, book: Store
) -> tuple[TextSet, Vector]:
    texts = held_out_windows(request, subject.tokenizer, text)
    stage = text if text in PRESETS else str(bare(text))
    return texts, _losses_on(subject, texts, stage, book)


def _losses_on(subject: Subject, texts: TextSet, stage: str, book: Store) -> Vector:
    """Losses of one model on some texts, from the store or measured now."""
    check_rows(subject.source, texts.tokens)
    # By what was read, not by what it was called: the digest of the sequences is the key.
    number = book.game({**subject.identity(), "kind": "losses", "sequences": texts.sha256})
    known = book.note(number, "losses")
    if known is None:
        step, stage = subject.progress.step, f"{subject.source.name} on {stage}"
        found = sequence_losses(
            subject.model, texts.tokens, step=lambda done, of: step(stage, done, of)
        )
        known = book.write_note(number, "losses", found.tolist())
    with noted_in(book.path):
        return np.array(known, dtype=np.float64)


def _on_task(
    request: EvaluateRequest, subject: Subject, name: str, task: "Task", book: Store
) -> TaskScores:
    number = book.game(score_key(request, subject, name, task))
    known = book.note(number, "scores")
    if known is None:
        subject.progress.say(f"{subject.source.name}: {name}")
        (found,) = score_tasks(
            {name: task},
            subject.model,
            subject.tokenizer,
            TaskSettings(
                request.limit,
                request.batch,
                bos=request.bos_policy(),
                context=context_of(subject.source),
            ),
        )
        known = book.write_note(number, "scores", found.as_json())
    assert isinstance(known, Mapping)
    with noted_in(book.path):
        return TaskScores.from_json(known)


def _spelled(tasks: tuple[str, ...]) -> list[str]:
    return list(dict.fromkeys(_each(tasks)))


def _each(tasks: tuple[str, ...]) -> Iterator[str]:
    for task in tasks:
        yield from PAPER_TASKS if task == "paper" else (task,)
