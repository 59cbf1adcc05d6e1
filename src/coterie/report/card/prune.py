"""A record as the model card of the checkpoint: `README.md` with YAML metadata."""

from coterie import players as p
from coterie.report import words as w
from coterie.report.card.metadata import metadata
from coterie.report.card.standing import DONE, loads_with, now_against_full, since_sentence
from coterie.report.schema.basics import TextPart
from coterie.report.schema.contributions import AbsencesPart, ContributionsPart
from coterie.report.schema.part import known
from coterie.report.schema.record import Record
from coterie.report.schema.search import ChoicePart, SizeChoicePart
from coterie.report.schema.verdict import VerdictPart
from coterie.report.wording.contributions import absences_title, contributions_title
from coterie.report.wording.generation import generation_warning
from coterie.report.wording.serving import served

FIGURE = "contributions.png"


def model_card(record: Record, licence: dict[str, str]) -> str:
    """Markdown with the metadata the Hub reads.

    Args:
        licence: Lines of the source's card that say how it may be used (``license``, …).
    """
    # A card is only written after a cut, so these parts are there.
    model, cut, verdict = record.model, known(record.cut), known(record.verdict)
    search, spent, since = record.search, known(record.budget), record.after or []
    unit = p.unit(model.player_kind)
    removed, kept = p.players(cut.removed_labels), p.players(cut.kept_labels)
    # Blocks without a layer need the modelling file beside the weights, which the Hub calls so.
    tags = ["pruned"] if record.runtimes is None else ["pruned", "custom_code"]
    tags += [DONE[one.what] for one in since]
    return f"""---
{metadata(model, licence, tags)}---

# {model.name}, {len(cut.removed)} of {model.players} {unit}s cut

{since_sentence(since) if since else _graded(verdict)}{_loading(record)}
[Coterie](https://pypi.org/project/coterie/) observed {spent.distinct:,} coalitions of
{unit}s{_chosen(record)}.

{now_against_full(record)}

Layers are counted from 0. Cut: {removed}. Kept: {kept}.

{_serving(record)}{_explained(record)}
## How it was made

- calibration: {_text(record.calibration)}
- search: `{search.method}`, {search.dtype} on {search.device}, seed {search.seed}
- cost: {w.count(spent.layer_tokens_asked)} layer-tokens asked,
  {w.count(spent.layer_tokens_executed)} executed,
  {w.count(spent.head_tokens)} head-tokens
- command: `{record.command}`

Everything else is in `coterie.json` beside this card. Licence and notices of the source model
apply.
"""


def _graded(verdict: VerdictPart) -> str:
    warned = generation_warning(verdict.generation, verdict.ratio)
    return "".join(f"**{told}**\n\n" for told in (verdict.sentence, warned) if told is not None)


def _chosen(record: Record) -> str:
    """How the cut was decided, as the end of a sentence."""
    # The paper's method ranks and has no finalists.
    if record.choice is None:
        unit = p.unit(record.model.player_kind)
        return f", estimated what each {unit} contributes, and cut the lowest"
    return (
        f" by `{record.search.method}` search and kept the best of"
        f" {len(_here(record, record.choice).finalists)} finalists\non"
        f" {_judges(record, record.choice)}"
    )


def _here(record: Record, choice: ChoicePart) -> SizeChoicePart:
    """The choice between coalitions of the size that was cut to."""
    removed = known(record.cut).removed
    # A front has many sizes; the checkpoint is of one.
    return next(one for one in choice.sizes if one.removed == removed)


def _judges(record: Record, choice: ChoicePart) -> str:
    """What decided between the finalists."""
    # A mix decides on items of tasks as well as on sequences.
    if record.utility is not None:
        return f"{choice.sequences} items and sequences, by `{record.utility.spec}`"
    return f"{choice.sequences} sequences of {choice.documents} documents"


def _explained(record: Record) -> str:
    """Finalists, contributions and fidelity, as far as the record has them."""
    parts = [] if record.choice is None else [_finalists(record, record.choice)]
    found, fidelity = record.contributions, record.fidelity
    if record.absences is not None:
        parts.append(_absences(record, record.absences))
    # A search on a small budget observes too little for contributions.
    if found is None:
        return "\n".join(parts)
    title = contributions_title(record)
    told = f"## {title}\n\n"
    told += "" if found.remark is None else f"{found.remark}.\n\n"
    # Nothing is known of any player: the remark says why.
    if all(layer.value is None for layer in found.layers):
        return "\n".join([*parts, told])
    # Above the measured table there is the picture of both.
    if record.absences is None:
        told += f"![{title}]({FIGURE})\n\n"
    told += _layers(record, found)
    told += (
        # Errors by source stand apart: more coalitions shrink one, more texts the other.
        "\n\nThe errors are standard errors by source: which coalitions were drawn (bootstrap, "
        "surrogate\nrefitted), and which documents were read."
    )
    if fidelity is not None:
        overall = fidelity.overall
        told += (
            f" Surrogate, {fidelity.how}:\nR² {w.or_dash(overall.r2)},\n"
            f"Spearman {w.or_dash(overall.spearman)}."
        )
    return "\n".join([*parts, told, ""])


def _absences(record: Record, found: AbsencesPart) -> str:
    """What each player's absence alone costs, and the picture of all that is known of players."""
    title, removed = absences_title(record), set(known(record.cut).removed)
    rows = [
        f"| {layer.player} | {w.or_dash(layer.loss, '{:+.4f}')} "
        f"| {w.or_dash(layer.error, '{:.4f}')} | {'cut' if player in removed else 'kept'} |"
        for player, layer in enumerate(found.layers)
    ]
    unit = p.unit(record.model.player_kind)
    head = f"| {unit} | loss alone ({found.unit}) | ± texts | |\n|---|---|---|---|"
    return "\n".join([f"## {title}", "", f"![{title}]({FIGURE})", "", head, *rows, ""])


def _finalists(record: Record, choice: ChoicePart) -> str:
    rows = [
        f"| {one.method} | {p.players(one.removed_labels)} | {one.behind:+.4f} ± "
        f"{w.or_dash(one.error, '{:.4f}')} |"
        for one in _here(record, choice).finalists
    ]
    # A record without a unit was made by loss.
    unit = choice.unit or "nats per token"
    head = f"| finalist | cut | behind the winner (paired), {unit} |\n|---|---|---|"
    return "\n".join(["## Finalists", "", head, *rows, ""])


def _loading(record: Record) -> str:
    if (needs := loads_with(record)) is not None:
        return f"`AutoModelForCausalLM.from_pretrained` loads it where {needs} is installed."
    if record.runtimes is None:
        return "An ordinary checkpoint: `AutoModelForCausalLM.from_pretrained` loads it as it is."
    return (
        "Some layers lack their attention or feed-forward block, in the block format of `nemotron-"
        f"nas`.\nWritten for: {'; '.join(record.runtimes)}. The small modelling file that"
        " transformers\nneeds lies beside the weights."
    )


def _serving(record: Record) -> str:
    """Who reads it rightly; nothing of a record that was written before that was asked."""
    rows = [] if record.serving is None else served(record.serving)
    lines = [f"- {title}: {who}" for title, who in rows]
    return "\n".join(["## Runtimes", "", *lines, "", ""]) if lines else ""


def _layers(record: Record, found: ContributionsPart) -> str:
    # By number: labels of blocks repeat the layer.
    removed = set(known(record.cut).removed)
    rows = [
        f"| {layer.player} | {w.or_dash(layer.value, '{:.4f}')} "
        f"| {w.or_dash(layer.error_sampling, '{:.4f}')} "
        f"| {w.or_dash(layer.error_texts, '{:.4f}')} "
        f"| {'cut' if player in removed else 'kept'} |"
        for player, layer in enumerate(found.layers)
    ]
    unit = p.unit(record.model.player_kind)
    head = f"| {unit} | {found.semivalue} ({found.unit}) | ± sampling | ± texts | |"
    return "\n".join([head, "|---|---|---|---|---|", *rows])


def _text(text: TextPart) -> str:
    # Whether a text begins with BOS moves every loss, so each text says it.
    bos = "BOS first" if text.bos else "no BOS"
    return f"{text.description}, {text.sequences} × {text.length} tokens, {bos}"
