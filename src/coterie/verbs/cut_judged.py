"""`cut --held-out TEXT`: what a cut that nobody searched for costs, and what it writes."""

import gc
from dataclasses import dataclass
from functools import partial

import numpy as np

from coterie.models.families.fields import text_config
from coterie.models.files.sources import Source
from coterie.models.loaded.load import default_dtype, load_model, load_tokenizer, pick_device
from coterie.plain import finite
from coterie.report.schema.basics import TextPart
from coterie.report.schema.verdict import VerdictPart
from coterie.scores.sequence_losses import floored_losses
from coterie.texts.sets import TextSet
from coterie.verbs.after_cut.texts import judges_alone
from coterie.verbs.checkpoint_requests import CutRequest
from coterie.verbs.evaluate.nearness import generation_of, held_beside, noted
from coterie.verbs.shared.grades import graded
from coterie.verbs.shared.prepared import text_part
from coterie.verbs.shared.progress import Progress
from coterie.verbs.shared.verdict import difference, perplexity


@dataclass(frozen=True)
class Judged:
    """A verdict, and the text that it was given on."""

    verdict: VerdictPart
    held_out: TextPart


def read_to_judge(spec: str, source: Source) -> TextSet:
    """The sequences of a text, as this model reads them."""
    return judges_alone(spec, source, load_tokenizer(source))


def judge_cut(
    request: CutRequest, full: Source, cut: Source, texts: TextSet, progress: Progress
) -> Judged:
    """The full model against the cut one on held-out text; one of them is in memory at a time.

    Args:
        request: Says where the models run.
        full: The model that was cut.
        cut: The checkpoint.
        texts: The sequences that judge.
        progress: Told what is being done.
    """
    device = pick_device(request.device)
    load = partial(load_model, dtype=default_dtype(device)[0], device=device)
    tokenizer = load_tokenizer(full)
    progress.say("judging the full model on held-out text")
    model = load(full)
    before, _ = floored_losses(model, texts.tokens)
    first = noted(model, texts, tokenizer)
    del model
    gc.collect()
    progress.say("judging the cut model on held-out text")
    model = load(cut)
    after, bad = floored_losses(model, texts.tokens)
    second = held_beside(first, model)
    del model
    gc.collect()
    one, two = (perplexity(losses, texts.documents) for losses in (before, after))
    verdict = VerdictPart(
        before=one,
        after=two,
        difference=difference(before, after, texts),
        ratio=float(np.exp(two.nll - one.nll)),
        kl=finite(second.kl),
        top1=finite(second.top1),
        not_finite=bad,
        generation=generation_of(first, second, load(full), tokenizer),
    )
    return Judged(graded(verdict, int(text_config(full.config()).vocab_size)), text_part(texts))
