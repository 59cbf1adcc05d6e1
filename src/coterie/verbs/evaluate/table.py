"""From losses and scores of several models to one table: means, errors, paired differences."""

from collections.abc import Mapping, Sequence

import numpy as np

from coterie.game.coalitions import Vector
from coterie.game.utilities import clustered_mean, floor_nll
from coterie.models.families.fields import text_config
from coterie.models.files.sources import Source
from coterie.plain import finite
from coterie.report.schema.evaluate import EstimatePart, ModelRow, PerplexityRow, TaskRow
from coterie.scores.task_scores import MeanScore, TaskScores, average, paired_difference
from coterie.texts.sets import TextSet

Losses = Mapping[str, tuple[TextSet, Vector]]
"""Text → its windows and the loss of each."""

Scores = Mapping[str, list[TaskScores]]
"""Name asked for → the scores of its tasks."""


def judgement(models: Sequence[tuple[Source, Losses, Scores]]) -> list[ModelRow]:
    """One row a model; all but the first are compared with the first."""
    # The first is what the others are compared with, so it has no differences itself.
    _, first_losses, first_scores = models[0]
    rows = []
    for place, (source, losses, scores) in enumerate(models):
        texts = [
            _text_row(found, first_losses[name] if place else None, source)
            for name, found in losses.items()
        ]
        tasks = [
            _task_row(group, score, first_scores[group][i] if place else None)
            for group, members in scores.items()
            for i, score in enumerate(members)
        ]
        rows.append(
            ModelRow(
                name=source.name,
                fingerprint=source.fingerprint(),
                parameters=sum(entry.n_values for entry in source.entries),
                bytes=sum(entry.n_bytes for entry in source.entries),
                perplexity=texts,
                tasks=tasks,
                average=_average(scores),
            )
        )
    return rows


def _text_row(
    found: tuple[TextSet, Vector],
    first: tuple[TextSet, Vector] | None,
    source: Source,
) -> PerplexityRow:
    texts, losses = found
    bad = int((~np.isfinite(losses)).sum())
    floor = floor_nll(int(text_config(source.config()).vocab_size))
    losses = _read(losses, floor)
    nll, error = clustered_mean(losses, texts.documents)
    perplexity = float(np.exp(nll))
    difference = None
    # Paired only on the very same sequences: another tokenizer cuts other windows.
    if first is not None and first[0].sha256 == texts.sha256:
        gap = clustered_mean(losses - _read(first[1], floor), texts.documents)
        difference = EstimatePart(mean=finite(gap[0]), error=gap[1])
    return PerplexityRow(
        text=texts.description,
        sha256=texts.sha256,
        length=texts.length,
        sequences=texts.n_sequences,
        documents=len(texts.document_names),
        bos=texts.bos,
        nll=EstimatePart(mean=nll, error=error),
        # The delta method: d exp(x) = exp(x) dx.
        perplexity=EstimatePart(
            mean=finite(perplexity), error=None if error is None else finite(perplexity * error)
        ),
        difference=difference,
        not_finite=bad,
    )


def _task_row(group: str, found: TaskScores, first: TaskScores | None) -> TaskRow:
    difference = None if first is None else _part(paired_difference(found, first))
    return TaskRow(
        task=found.task,
        group=group,
        metric=found.headline,
        score=_part(found.estimate()),
        difference=difference,
        items=len(found.items),
        chance=found.chance,
        at_chance=found.at_chance,
        truncated=found.truncated,
        metrics={metric: _part(found.estimate(metric)) for metric in found.scores},
        provenance=dict(found.provenance),
    )


def _average(scores: Scores) -> EstimatePart | None:
    """Over what was asked, each group by the mean of its members; None for a single one."""
    accuracies = [
        average([score.estimate() for score in members])
        for members in scores.values()
        if all(score.headline.startswith("acc") for score in members)
    ]
    return _part(average(accuracies)) if len(accuracies) > 1 else None


def _part(found: MeanScore) -> EstimatePart:
    return EstimatePart(mean=finite(found.mean), error=finite(found.standard_error))


def _read(losses: Vector, floor: float) -> Vector:
    """Losses that are not finite read as the floor."""
    return np.where(np.isfinite(losses), losses, floor)
