"""What repair, healing and quantizing did, row by row."""

from coterie.report import words as w
from coterie.report.schema.after_cut import AfterPart, CachePart
from coterie.report.schema.basics import TextPart
from coterie.report.schema.verdict import PerplexityPart

TITLES = {"heal": "Healing", "quantize": "Quantization", "repair": "Repair"}
"""The title of each verb's part."""


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
