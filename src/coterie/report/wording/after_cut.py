"""What repair, healing and quantizing did, row by row."""

from coterie.report import words as w
from coterie.report.schema.after_cut import AfterPart, CachePart, WatchedPart
from coterie.report.schema.basics import TextPart
from coterie.report.schema.verdict import PerplexityPart
from coterie.report.wording.generation import generation_warning

TITLES = {"heal": "Healing", "quantize": "Quantization", "repair": "Repair"}
"""The title of each verb's part."""

MODELS = {"full": "full model", "before": "model before"}
"""What the model is called that a checkpoint is held against."""


def ratio_of(part: AfterPart) -> float:
    """Perplexity of the checkpoint over that of the model it is held against."""
    full = part.full if part.full is not None else part.before
    return part.after.perplexity / full.perplexity


def after_rows(part: AfterPart) -> list[tuple[str, str]]:
    """What was done and what it came to: names and values, in order."""
    rows = _how_rows(part)
    if part.text is not None:
        rows.append(("from", _text(part.text)))
    rows.append(("held-out", _text(part.held_out)))
    # A model is only there if it was judged: the full one costs a pass of its own.
    models = [
        ("full model", part.full),
        ("before", part.before),
        ("after", part.after),
    ]
    rows += [(name, _loss(one)) for name, one in models if one is not None]
    change, error = part.difference.nll, part.difference.error
    rows.append(("change", f"{change:+.4f} ± {w.or_dash(error, '{:.4f}')} nats per token, paired"))
    if (share := part.recovered) is not None:
        rows.append(("recovered", f"{share:.0%} of the loss that the cut had cost"))
    if (near := part.beside) is not None:
        agreed = "–" if near.top1 is None else f"{near.top1:.1%}"
        told = f"KL {w.or_dash(near.kl, '{:.4f}')} nats per token, same first choice {agreed}"
        rows.append((f"to the {MODELS[near.model]}", told))
        if (warned := generation_warning(near.generation, ratio_of(part))) is not None:
            rows.append(("generation", warned))
    rows.append(("on disk", f"{w.size(part.bytes_before)} to {w.size(part.bytes_after)}"))
    if part.reloaded is not None:
        gap = part.reloaded.max_logit_difference
        rows.append(("reloaded", f"logits within {gap:.1e} of the model in memory"))
    return rows


def _how_rows(part: AfterPart) -> list[tuple[str, str]]:
    """What was done: learning, a repair, or a quantization scheme."""
    rows: list[tuple[str, str]] = []
    # Learning tells how it learned, quantizing by which scheme.
    if (learning := part.learning) is not None:
        how = f"rank {learning.rank}" if learning.rank else "every weight that is kept"
        rows += [
            (
                "how",
                f"{learning.mode}, {how}: {w.count(learning.trained_parameters)} numbers",
            ),
            (
                "learned",
                f"{learning.steps} steps, {w.count(learning.tokens)} tokens in "
                f"{w.seconds(learning.seconds)}; KL {learning.kl_first:.4f} to "
                f"{learning.kl_last:.4f} nats per token",
            ),
        ]
        if learning.text_first is not None and learning.text_last is not None:
            told = f"{learning.text_first:.4f} to {learning.text_last:.4f} nats per token"
            rows.append(("loss on its text", told))
        if learning.states_first is not None and learning.states_last is not None:
            told = f"distance {learning.states_first:.4f} to {learning.states_last:.4f}"
            rows.append(("states after gaps", told))
        if learning.rates is not None:
            each = (f"{one.rate:.2g}: {w.or_dash(one.kl, '{:.4f}')}" for one in learning.rates)
            rows.append(("rates tried", f"KL by rate {', '.join(each)}"))
        if learning.watched is not None:
            rows.append(("watched text", _watched(learning.watched)))
        if (cache := learning.cache) is not None:
            rows.append(("teacher", _cache(cache)))
    elif (repair := part.repair) is not None:
        tried = ", ".join(f"{name} {loss:.4f}" for name, loss in repair.tried.items())
        rows += [
            ("repair", f"{repair.name}: {repair.changed} tensors in {w.seconds(repair.seconds)}"),
            (
                "selected",
                f"as cut {repair.as_cut:.4f}, {tried or 'nothing else'} nats per token on"
                f" {repair.selection_sequences} sequences",
            ),
            *(("remark", remark) for remark in repair.remarks),
        ]
    else:
        group = f", scales for {part.group} inputs each" if part.group is not None else ""
        rows.append(("scheme", f"{part.settings['scheme']}{group}"))
    return rows


def _watched(watched: list[WatchedPart]) -> str:
    """What a text that was watched lost, before and at its best."""
    best = min(watched, key=lambda one: one.nll)
    return (
        f"{watched[0].nll:.4f} before, {best.nll:.4f} nats per token at its best, after"
        f" {best.step} steps, whose weights are kept"
    )


def _text(text: TextPart) -> str:
    return (
        f"{text.description}: {text.sequences} × {text.length} tokens of {text.documents} documents"
    )


def _cache(cache: CachePart) -> str:
    words = f"predictions in files, {w.size(cache.disk_bytes)}: "
    # With the whole vocabulary kept the KL is exact.
    if cache.rest is None:
        return f"{words}the whole vocabulary"
    return (
        f"{words}the {cache.top} most likely tokens, and {cache.rest:.1%} of the mass on the"
        " others as one: the KL is a lower bound"
    )


def _loss(one: PerplexityPart) -> str:
    spread = w.or_dash(one.error, "{:.3f}")
    return f"perplexity {one.perplexity:.3f} ± {spread}, {one.nll:.4f} nats per token"
