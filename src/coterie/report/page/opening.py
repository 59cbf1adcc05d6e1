"""The first screen of a run: what was cut, what it cost, and whether to use it."""

from coterie import players as p
from coterie.report import words as w
from coterie.report.page.costs import bytes_now, costs_of, size_of, three_digits
from coterie.report.page.elements import (
    Markup,
    command_box,
    number,
    siblings,
    tag,
    with_error,
)
from coterie.report.page.generation import sample
from coterie.report.schema.record import CheckpointRecord, Record
from coterie.report.schema.sparsify import SparsityRecord
from coterie.report.wording.after_cut import TITLES
from coterie.report.wording.generation import generation_warning
from coterie.report.wording.sparsify import sparsity_asked
from coterie.report.wording.standing import LastJudgement, advice, answer, standing


def opening(record: CheckpointRecord) -> Markup:
    """The model, what was done to it, the figures people ask for first, and the command."""
    found = standing(record)
    tiles = [*_loss_tiles(found), *_size_tiles(record), *_speed_tiles(record)]
    told = None if found is None else _answer(found)
    warned = None if found is None else generation_warning(found.generation, found.ratio)
    return siblings(
        [tag("p", what_was_done(record), class_="lead"), _strip(record)],
        [told, None if warned is None else tag("p", warned, class_="advice broken")],
        tag("ul", tiles, class_="tiles") if tiles else None,
        None if found is None else sample(found.generation),
        map(command_box, _commands(record)),
    )


def _commands(record: CheckpointRecord) -> list[str]:
    """What made it, last things first; a run of several stages is one command."""
    made = [] if record.composed or not record.after else [record.after[-1].command]
    return [*made, record.command] if record.command else made


def run_name(record: CheckpointRecord) -> str:
    """What the page calls the model of a record."""
    if record.model is not None:
        return record.model.name
    # Made of a model that was never cut: what was done first names it.
    named = record.after[0].settings.get("model") if record.after else None
    return str(named or "a checkpoint")


def what_was_done(record: CheckpointRecord) -> str:
    """What became of the model, in one sentence."""
    done = []
    if record.cut is not None and record.model is not None:
        unit = p.unit(record.model.player_kind, plural=True)
        gone = len(record.cut.removed)
        done.append(
            f"{gone} of {record.model.players} {unit} cut: {p.players(record.cut.removed_labels)}"
        )
    if isinstance(record, SparsityRecord):
        done.append(f"made {sparsity_asked(record.sparsity)} by {record.sparsity.pruner}")
    done += [TITLES.get(part.what, part.what).lower() for part in record.after or []]
    return ", then ".join(done) or "nothing was cut"


def _answer(found: LastJudgement) -> Markup:
    """Whether to use it, in a word and in a sentence."""
    word = answer(found)
    asked = tag("p", tag("span", "Shall I use it?"), tag("strong", word), class_="word")
    kind = word.lower().replace(" ", "-")
    return tag("div", asked, tag("p", advice(found), class_="advice"), class_=f"answer {kind}")


def _strip(record: CheckpointRecord) -> Markup | None:
    """The whole model in one line, first player to last: what is cut is hatched."""
    if (cut := record.cut) is None:
        return None
    gone = set(cut.removed)
    cells = [
        tag("span", class_="gone" if player in gone else None)
        for player in range(len(cut.removed) + len(cut.kept))
    ]
    return tag("div", cells, class_="strip", role="img", aria_label=what_was_done(record))


def _tile(name: str, value: str, small: str | None = None) -> Markup:
    more = tag("small", small) if small else None
    return tag("li", tag("span", name), tag("strong", value), more)


def _loss_tiles(found: LastJudgement | None) -> list[Markup]:
    if found is None:
        return []
    return [
        _tile(f"perplexity {when}", number(one.perplexity, "{:.3f}"), _plus_minus(one.error))
        for when, one in (("before", found.before), ("after", found.after))
    ] + [
        _tile(
            "change",
            f"×{number(found.ratio, '{:.3f}')}",
            f"{with_error(found.change, found.error, '{:+.4f}')} nats per token",
        ),
    ]


def _plus_minus(error: float | None) -> str | None:
    return None if error is None else f"± {number(error, '{:.3f}')}"


def _size_tiles(record: CheckpointRecord) -> list[Markup]:
    tiles, size, n_bytes = list[Markup](), size_of(record), bytes_now(record)
    if size is not None:
        before = w.count(size.parameters_before)
        tiles.append(_tile("parameters", w.count(size.parameters_after), f"from {before}"))
    if n_bytes is not None:
        first = record.after[0].bytes_before if record.after else n_bytes
        before = w.size(first if size is None else size.bytes_before)
        tiles.append(_tile("on disk", w.size(n_bytes), f"from {before}"))
    return tiles


def _speed_tiles(record: CheckpointRecord) -> list[Markup]:
    times = [one for one in costs_of(record) if one.kind == "milliseconds"]
    # Layers are timed in place, in the full model: what goes with them is what is saved.
    if times and record.cut is not None:
        before, left = times[0].before, times[0].left(record.cut.removed)
        told = f"{three_digits(before)} to {three_digits(left)} {times[0].name}"
        return [_tile("speed", f"×{number(before / left, '{:.2f}')}", told)] if left else []
    target = record.target if isinstance(record, Record) else None
    if target is None or target.unit != "seconds" or not target.after:
        return []
    return [
        _tile(
            "speed, a pass over calibration text",
            f"×{number(target.before / target.after, '{:.2f}')}",
            f"{number(target.before, '{:.3f}')} s to {number(target.after, '{:.3f}')} s",
        )
    ]
