"""A record as the model card of the checkpoint: `README.md` with YAML metadata."""

from coterie.report import words as w
from coterie.report.record import PerplexityPart, Record, TextPart

FIGURE = "contributions.png"


def model_card(record: Record, licence: dict[str, str]) -> str:
    """Markdown with the metadata the Hub reads.

    Args:
        licence: Lines of the source's card that say how it may be used (``license``, …).
    """
    model, cut, verdict = record["model"], record["cut"], record["verdict"]
    before, after, change = verdict["before"], verdict["after"], verdict["difference"]
    size, search = record["size"], record["search"]
    removed, kept = w.layers(cut["removed"]), w.layers(cut["kept"])
    return f"""---
{_metadata(record, licence)}---

# {model["name"]}, {len(cut["removed"])} of {model["players"]} layers cut

An ordinary checkpoint: `AutoModelForCausalLM.from_pretrained` loads it as it is.
[Coterie](https://pypi.org/project/coterie/) observed {record["budget"]["distinct"]:,} coalitions of
layers, estimated what each layer contributes, and cut the lowest.

| | before | after |
|---|---|---|
| layers | {model["players"]} | {len(cut["kept"])} |
| parameters | {w.count(size["parameters_before"])} | {w.count(size["parameters_after"])} |
| weights on disk | {w.size(size["bytes_before"])} | {w.size(size["bytes_after"])} |
| held-out perplexity | {_perplexity(before)} | {_perplexity(after)} |

Held-out: {_text(record["held_out"])}, {search["dtype"]}. The loss per token changes by
{change["nll"]:+.4f} ± {w.or_dash(change["error"], "{:.4f}")} nats (paired over documents).

Layers are counted from 0. Cut: {removed}. Kept: {kept}.

## Contribution of each layer

![Contribution of each layer]({FIGURE})

{_layers(record)}

The errors are standard errors by source: which coalitions were drawn (bootstrap, surrogate
refitted), and which documents were read. Surrogate, {record["fidelity"]["how"]}:
R² {w.or_dash(record["fidelity"]["overall"]["r2"])},
Spearman {w.or_dash(record["fidelity"]["overall"]["spearman"])}.

## How it was made

- calibration: {_text(record["calibration"])}
- search: `{search["method"]}`, {search["dtype"]} on {search["device"]}, seed {search["seed"]}
- cost: {w.count(record["budget"]["layer_tokens_asked"])} layer-tokens asked,
  {w.count(record["budget"]["layer_tokens_executed"])} executed,
  {w.count(record["budget"]["head_tokens"])} head-tokens
- command: `{record["command"]}`

Everything else is in `coterie.json` beside this card. Licence and notices of the source model
apply.
"""


def _metadata(record: Record, licence: dict[str, str]) -> str:
    lines = {"library_name": "transformers", "pipeline_tag": "text-generation"} | licence
    base = record["model"]["hub_id"]
    if base:
        lines |= {"base_model": base, "base_model_relation": "finetune"}
    text = "".join(f"{key}: {value}\n" for key, value in lines.items())
    return f"{text}tags:\n- coterie\n- pruned\n"


def _layers(record: Record) -> str:
    removed = set(record["cut"]["removed"])
    found = record["contributions"]
    rows = [
        f"| {layer['layer']} | {w.or_dash(layer['value'], '{:.4f}')} "
        f"| {w.or_dash(layer['error_sampling'], '{:.4f}')} "
        f"| {w.or_dash(layer['error_texts'], '{:.4f}')} "
        f"| {'cut' if layer['layer'] in removed else 'kept'} |"
        for layer in found["layers"]
    ]
    head = f"| layer | {found['semivalue']} ({found['unit']}) | ± sampling | ± texts | |"
    return "\n".join([head, "|---|---|---|---|---|", *rows])


def _text(text: TextPart) -> str:
    bos = "BOS first" if text["bos"] else "no BOS"
    return f"{text['description']}, {text['sequences']} × {text['length']} tokens, {bos}"


def _perplexity(part: PerplexityPart) -> str:
    return f"{part['perplexity']:.3f} ± {w.or_dash(part['error'])}"
