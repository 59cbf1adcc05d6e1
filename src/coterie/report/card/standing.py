"""What a checkpoint is now: after its cut, and after whatever was done to it since."""

from collections.abc import Sequence

from coterie import players as p
from coterie.report import words as w
from coterie.report.schema.after_cut import AfterPart
from coterie.report.schema.basics import TextPart
from coterie.report.schema.part import known
from coterie.report.schema.record import Record
from coterie.report.schema.verdict import PerplexityPart

DONE = {"heal": "healed", "quantize": "quantized", "repair": "repaired"}
"""What a checkpoint is called that a verb was done to."""


def loads_with(record: Record) -> str | None:
    """The package that a quantized checkpoint needs beside transformers; None where none."""
    return next((one.loads_with for one in reversed(record.after or []) if one.loads_with), None)


def since_sentence(since: Sequence[AfterPart]) -> str:
    """What was done since the cut and what it came to, in bold."""
    last, done = since[-1], ", ".join(DONE[one.what] for one in since)
    told = f"perplexity {last.after.perplexity:.4g}"
    full = next((one.full for one in reversed(since) if one.full is not None), None)
    if full is not None:
        told += f", ×{last.after.perplexity / full.perplexity:.3g} of the full model's"
    return f"**Since the cut: {done}; {told}.**\n\n"


def now_against_full(record: Record) -> str:
    """The head table of a card: the full model, the cut, and the checkpoint as it lies there."""
    cut, size, verdict = known(record.cut), known(record.size), known(record.verdict)
    unit, since = p.unit(record.model.player_kind), record.after or []
    columns = ["before", "after"] if not since else ["full model", "as cut", "this checkpoint"]
    rows = [
        (f"{unit}s", [f"{record.model.players}", f"{len(cut.kept)}"], f"{len(cut.kept)}"),
        (
            "parameters",
            [w.count(size.parameters_before), w.count(size.parameters_after)],
            w.count(size.parameters_after),
        ),
        (
            "weights on disk",
            [w.size(size.bytes_before), w.size(size.bytes_after)],
            w.size(since[-1].bytes_after) if since else "",
        ),
        (
            "held-out perplexity",
            [_perplexity(verdict.before), _perplexity(verdict.after)],
            _perplexity(since[-1].after) if since else "",
        ),
    ]
    lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for name, two, now in rows:
        lines.append(f"| {name} | {' | '.join([*two, now] if since else two)} |")
    return "\n".join([*lines, "", _change(record, since)])


def _change(record: Record, since: Sequence[AfterPart]) -> str:
    """On which text it was judged, and how far the loss is from the full model's."""
    verdict = known(record.verdict)
    if not since:
        change = verdict.difference
        return (
            f"Held-out: {_text(known(record.held_out))}, {record.search.dtype}. The loss per token"
            f" changes by\n{change.nll:+.4f} ± {w.or_dash(change.error, '{:.4f}')} nats (paired"
            " over documents)."
        )
    last = since[-1]
    full = next((one.full for one in reversed(since) if one.full is not None), verdict.before)
    return (
        f"Held-out, this checkpoint: {_text(last.held_out)}. The loss per token is\n"
        f"{last.after.nll - full.nll:+.4f} nats from the full model's."
    )


def _text(text: TextPart) -> str:
    # Whether a text begins with BOS moves every loss, so each text says it.
    bos = "BOS first" if text.bos else "no BOS"
    return f"{text.description}, {text.sequences} × {text.length} tokens, {bos}"


def _perplexity(part: PerplexityPart) -> str:
    return f"{part.perplexity:.3f} ± {w.or_dash(part.error)}"
