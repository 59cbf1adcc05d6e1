"""The record of a sparse checkpoint as its model card."""

from coterie.report import words as w
from coterie.report.card.metadata import metadata
from coterie.report.schema.part import known
from coterie.report.schema.sparsify import SparsityRecord
from coterie.report.schema.verdict import VerdictPart
from coterie.report.wording.generation import generation_warning
from coterie.report.wording.sparsify import RUNTIMES, inputs_judged, sequences_of, sparsity_asked


def sparsity_card(record: SparsityRecord, licence: dict[str, str]) -> str:
    """Markdown with the metadata the Hub reads.

    Args:
        licence: Lines of the source's card that say how it may be used (``license``, …).
    """
    # Written after the cut is judged, so there is a verdict.
    model, sparse, verdict = record.model, record.sparsity, known(record.verdict)
    before, after, change = verdict.before, verdict.after, verdict.difference
    rows = "\n".join(
        f"| {u.unit} | {w.or_dash(u.contribution, '{:.4f}')} | {u.asked:.4f} "
        f"| {'cut' if u.cut else format(u.realised, '.4f')} |"
        for u in sparse.units
    )
    # YAML begins right behind the three dashes.
    return f"""---
{metadata(model, licence, ["pruned", "sparse"])}---

# {model.name}, {sparsity_asked(sparse)}

An ordinary checkpoint: `AutoModelForCausalLM.from_pretrained` loads it as it is. Of
{sparse.weights:,} weights in its linear maps {sparse.zeros:,} are zero, pruned by
`{sparse.pruner}` with the sparsity shared out by `{sparse.allocation}`.

{RUNTIMES}

| | before | after |
|---|---|---|
| held-out perplexity | {before.perplexity:.3f} ± {w.or_dash(before.error)} | \
{after.perplexity:.3f} ± {w.or_dash(after.error)} |

Held-out: {sequences_of(record.held_out)}, {record.dtype}. The loss per token changes by
{change.nll:+.4f} ± {w.or_dash(change.error, "{:.4f}")} nats (paired over documents).{_red(verdict)}

## Sparsity of each unit

| unit | contribution | asked | realised |
|---|---|---|---|
{rows}

## How it was made

- calibration: {sequences_of(record.calibration)}
- contributions: {sparse.contributions or "none were needed"}
- pruning: {inputs_judged(sparse)}{_measured(record)}
- command: `{record.command}`

Everything else is in `coterie.json` beside this card. Licence and notices of the source model
apply.
"""


def _red(verdict: VerdictPart) -> str:
    told = generation_warning(verdict.generation, verdict.ratio)
    return "" if told is None else f" **{told}**"


def _measured(record: SparsityRecord) -> str:
    pruning = record.pruning
    # Nothing is measured where a pruner looks at weights alone.
    if pruning is None or record.sparsity.judged_on is None:
        return ""
    return f" ({sequences_of(pruning)})"
