"""The record of a sparse checkpoint: its shape, its tables on a terminal, its model card."""

from typing import NotRequired, TypedDict

from rich.console import Console
from rich.table import Table

from coterie.plain import Json
from coterie.report import words as w
from coterie.report.record import ModelPart, SizePart, StreamPart, TextPart, VerdictPart
from coterie.report.terminal import streamed

RUNTIMES = (
    "Zeros in scattered places save no time on ordinary hardware: dense kernels multiply them too. "
    "2:4 patterns profit from NVIDIA's sparse tensor cores (Ampere and later), any zeros from "
    "CPU engines for sparse weights such as DeepSparse, and from compressed storage."
)
"""Who profits from zeros; said wherever a user chooses them."""

NAMED = 4
"""Maps that no input reached, named on a terminal; all are in the record."""

_BAR = 24


class UnitPart(TypedDict):
    """One layer, or block of a layer."""

    unit: str
    layer: int
    weights: int
    contribution: float | None
    """In the unit of `contributions`; null where none was measured, or the layer cannot be cut."""
    asked: float
    realised: float
    cut: bool


class SparsityPart(TypedDict):
    """What was asked and what there is, counted after the checkpoint was read back."""

    target: float
    pattern: str | None
    allocation: str
    pruner: str
    contributions: str | None
    asked: float
    """Share of zeros of all prunable weights of the source, cut layers counted as zeros."""
    realised: float
    zeros: int
    """Zeros in the linear maps of the checkpoint."""
    weights: int
    """Weights of those linear maps."""
    damping: float | None
    """Largest share of its mean diagonal that a Hessian was damped by."""
    judged_on: list[int] | None
    """Fewest and most calibration inputs of a pruned map; null where the pruner needs none."""
    unseen: list[str]
    """Pruned maps that no calibration input reached: weights alone decided in them."""
    units: list[UnitPart]


class CostPart(TypedDict):
    """What was asked of the model before it was pruned."""

    coalitions: int
    layer_tokens_asked: int
    not_finite: int
    seconds: dict[str, float]
    choice: dict[str, Json]
    """What choosing the allocation tried, and what it gave."""


class SparsityRecord(TypedDict):
    """A whole report, as `coterie.json` holds it."""

    kind: str
    command: str
    request: dict[str, Json]
    identity: dict[str, Json]
    model: ModelPart
    calibration: TextPart
    pruning: TextPart | None
    """What maps were measured on, the calibration's sequences among it; null where none was."""
    held_out: TextPart
    sparsity: SparsityPart
    cost: CostPart
    versions: dict[str, str]
    machine: dict[str, str | int]
    dtype: str
    streaming: NotRequired[StreamPart]
    verdict: NotRequired[VerdictPart]
    size: NotRequired[SizePart]
    verification: NotRequired[dict[str, Json]]


def print_sparsity(record: SparsityRecord, console: Console | None = None) -> None:
    """Print what the record holds: sparsities, verdict, cost."""
    out = console or Console(highlight=False)
    sparse, model = record["sparsity"], record["model"]
    out.print(
        f"\n[bold]{model['name']}[/bold] ({model['architecture']}), {_asked(sparse)}, "
        f"{sparse['allocation']}, {sparse['pruner']}, {record['dtype']}"
    )
    if sparse["contributions"]:
        out.print(f"[dim]{sparse['contributions']}[/dim]")
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("unit", "contribution", "asked", "realised", ""):
        table.add_column(name, justify="left" if not name else "right")
    for unit in sparse["units"]:
        bar = "[red]cut[/red]" if unit["cut"] else "█" * round(_BAR * unit["realised"])
        table.add_row(
            unit["unit"],
            w.or_dash(unit["contribution"], "{:.4f}"),
            f"{unit['asked']:.4f}",
            f"{unit['realised']:.4f}",
            bar,
        )
    out.print(table)
    _verdict(record, out)
    spent = record["cost"]
    out.print(
        f"\n[bold]Cost[/bold]\n{spent['coalitions']:,} coalitions, "
        f"{w.count(spent['layer_tokens_asked'])} layer-tokens asked; "
        + ", ".join(f"{k} {w.seconds(v)}" for k, v in spent["seconds"].items())
    )
    if (stream := record.get("streaming")) is not None:
        for what, told in streamed(stream):
            out.print(f"{what}: {told}")
    out.print(f"[dim]{RUNTIMES}[/dim]")


def sparsity_card(record: SparsityRecord, licence: dict[str, str]) -> str:
    """Markdown with the metadata the Hub reads.

    Args:
        licence: Lines of the source's card that say how it may be used (``license``, …).
    """
    model, sparse, verdict = record["model"], record["sparsity"], record["verdict"]
    before, after, change = verdict["before"], verdict["after"], verdict["difference"]
    lines = {"library_name": "transformers", "pipeline_tag": "text-generation"} | licence
    if model["hub_id"]:
        lines |= {"base_model": model["hub_id"], "base_model_relation": "finetune"}
    metadata = "".join(f"{key}: {value}\n" for key, value in lines.items())
    rows = "\n".join(
        f"| {u['unit']} | {w.or_dash(u['contribution'], '{:.4f}')} | {u['asked']:.4f} "
        f"| {'cut' if u['cut'] else format(u['realised'], '.4f')} |"
        for u in sparse["units"]
    )
    return f"""---
{metadata}tags:
- coterie
- pruned
- sparse
---

# {model["name"]}, {_asked(sparse)}

An ordinary checkpoint: `AutoModelForCausalLM.from_pretrained` loads it as it is. Of
{sparse["weights"]:,} weights in its linear maps {sparse["zeros"]:,} are zero, pruned by
`{sparse["pruner"]}` with the sparsity shared out by `{sparse["allocation"]}`.

{RUNTIMES}

| | before | after |
|---|---|---|
| held-out perplexity | {before["perplexity"]:.3f} ± {w.or_dash(before["error"])} | \
{after["perplexity"]:.3f} ± {w.or_dash(after["error"])} |

Held-out: {_text(record["held_out"])}, {record["dtype"]}. The loss per token changes by
{change["nll"]:+.4f} ± {w.or_dash(change["error"], "{:.4f}")} nats (paired over documents).

## Sparsity of each unit

| unit | contribution | asked | realised |
|---|---|---|---|
{rows}

## How it was made

- calibration: {_text(record["calibration"])}
- contributions: {sparse["contributions"] or "none were needed"}
- pruning: {_inputs(sparse)}{_measured(record)}
- command: `{record["command"]}`

Everything else is in `coterie.json` beside this card. Licence and notices of the source model
apply.
"""


def _verdict(record: SparsityRecord, out: Console) -> None:
    sparse, verdict = record["sparsity"], record["verdict"]
    before, after, change = verdict["before"], verdict["after"], verdict["difference"]
    out.print("\n[bold]Verdict[/bold]")
    out.print(f"held-out: {_text(record['held_out'])}")
    out.print(
        f"perplexity {before['perplexity']:.3f} ± {w.or_dash(before['error'])} before, "
        f"{after['perplexity']:.3f} ± {w.or_dash(after['error'])} after (×{verdict['ratio']:.3f})"
    )
    out.print(
        f"loss {change['nll']:+.4f} ± {w.or_dash(change['error'], '{:.4f}')} nats per token, paired"
    )
    out.print(
        f"zeros {sparse['zeros']:,} of {sparse['weights']:,} weights in linear maps; asked "
        f"{sparse['asked']:.6f}, realised {sparse['realised']:.6f}"
    )
    if sparse["damping"] is not None:
        out.print(f"Hessians damped by up to {sparse['damping']:g} of their mean diagonal")
    if (pruning := record["pruning"]) is not None and sparse["judged_on"] is not None:
        out.print(f"measured on: {_text(pruning)}")
    out.print(_inputs(sparse))
    out.print(f"reloaded: {record['verification']['summary']}")


def _inputs(sparse: SparsityPart) -> str:
    """On how many inputs maps were judged, and which of them on none."""
    if sparse["judged_on"] is None:
        return f"{sparse['pruner']} looks at weights alone: no text was read for pruning"
    fewest, most = sparse["judged_on"]
    rows = f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"
    told = f"maps were judged on {rows} calibration inputs each"
    if unseen := sparse["unseen"]:
        named = ", ".join(unseen[:NAMED]) + (", …" if len(unseen) > NAMED else "")
        told += (
            f"; none reached {len(unseen)} of them, in which weights alone decided ({named}): "
            "more --pruning-sequences would reach more"
        )
    return told


def _measured(record: SparsityRecord) -> str:
    pruning = record["pruning"]
    if pruning is None or record["sparsity"]["judged_on"] is None:
        return ""
    return f" ({_text(pruning)})"


def _asked(sparse: SparsityPart) -> str:
    return f"{sparse['pattern'] or format(sparse['target'], '.0%')} sparse"


def _text(text: TextPart) -> str:
    bos = "BOS first" if text["bos"] else "no BOS"
    return f"{text['description']}, {text['sequences']} × {text['length']} tokens, {bos}"
