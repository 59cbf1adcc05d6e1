"""How sure a run is of what it says, and where it comes from."""

from coterie import players as p
from coterie.report import words as w
from coterie.report.page.elements import Markup, facts, number, section, siblings, tag, with_error
from coterie.report.schema.record import CheckpointRecord, Record

NAMED = 20
"""Coalitions that broke down, named one by one."""


def how_sure(record: CheckpointRecord) -> Markup:
    """Errors by source, fidelity, texts, cost and provenance."""
    return siblings(
        section("How sure", _errors(record), _fidelity(record), _texts(record)),
        section("Where it comes from", _provenance(record), _cost(record)),
    )


def _errors(record: CheckpointRecord) -> Markup | None:
    rows = []
    verdict = record.verdict
    if verdict is not None:
        change = verdict.difference
        rows += [
            (
                "cost of the cut on held-out text",
                f"{with_error(change.nll, change.error, '{:+.4f}')} nats per token, paired over"
                f" {change.documents} documents",
            ),
            ("distance to the full model (KL)", f"{number(verdict.kl)} nats per token"),
            ("same most likely token", number(verdict.top1, "{:.1%}")),
        ]
        if verdict.not_finite:
            rows.append(("not finite", f"{verdict.not_finite} held-out losses, read as the floor"))
    if isinstance(record, Record) and (found := record.contributions) is not None:
        for name, errors in (
            ("by coalitions drawn", [one.error_sampling for one in found.layers]),
            ("by texts read", [one.error_texts for one in found.layers]),
        ):
            known = [one for one in errors if one is not None]
            told = "unknown" if not known else f"at most {number(max(known), '{:.2g}')}"
            rows.append((f"error of contributions {name}", f"{told} ({found.unit})"))
    if isinstance(record, Record) and record.cut and (call := record.cut.closest) is not None:
        rows.append(("closest call", with_error(call.difference, call.error)))
    return facts(rows, "Errors by source") if rows else None


def _fidelity(record: CheckpointRecord) -> Markup | None:
    if not isinstance(record, Record) or (found := record.fidelity) is None:
        return None
    parts = [("overall", found.overall)]
    parts += [(f"{size} kept", part) for size, part in found.by_size.items()]
    rows = [
        (
            name,
            f"R² {number(part.r2, '{:.3f}')}, Spearman {number(part.spearman, '{:.3f}')} on"
            f" {part.coalitions:,} coalitions",
        )
        for name, part in parts
    ]
    told = tag("p", f"The stand-in on coalitions it has not seen: {found.how}.")
    return siblings(told, facts(rows, "Held-out fidelity"))


def _texts(record: CheckpointRecord) -> Markup | None:
    rows = [
        (
            name,
            f"{text.description}: {text.sequences} × {text.length} tokens of {text.documents}"
            f" documents, {'BOS first' if text.bos else 'no BOS'}",
        )
        for name, text in (("calibration", record.calibration), ("held-out", record.held_out))
        if text is not None
    ]
    return facts(rows, "Texts") if rows else None


def _provenance(record: CheckpointRecord) -> Markup | None:
    rows: list[tuple[str, str]] = []
    if (model := record.model) is not None:
        rows += [
            ("model", f"{model.name}, {model.architecture}, {model.dtype}"),
            ("weights", model.revision or model.fingerprint),
        ]
        rows += [(f"{p.named(label)} stays", why) for label, why in model.locked.items()]
    if isinstance(record, Record):
        search = record.search
        rows += [
            ("search", f"{search.method}, {search.dtype} on {search.device}, seed {search.seed}"),
            ("engine", search.mode),
        ]
        if record.verification is not None:
            rows.append(("reloaded", str(record.verification.get("summary", "checked"))))
    # Every kind of record but the barest names versions and machine.
    for name in ("versions", "machine"):
        found = getattr(record, name, None) or {}
        if found:
            rows.append((name, ", ".join(f"{key} {value}" for key, value in found.items())))
    return facts(rows, "Provenance") if rows else None


def _cost(record: CheckpointRecord) -> Markup | None:
    if not isinstance(record, Record) or (spent := record.budget) is None:
        return None
    rows = [
        ("distinct coalitions", f"{spent.distinct:,} ({spent.known:,} known before)"),
        ("layer-tokens asked", w.count(spent.layer_tokens_asked)),
        ("layer-tokens executed", w.count(spent.layer_tokens_executed)),
        ("time", ", ".join(f"{k} {w.seconds(v)}" for k, v in spent.seconds.items())),
    ]
    if spent.not_finite:
        rows.append(("not finite", f"{spent.not_finite} observations, read as the floor"))
    broken = record.breakdowns or []
    rows += [("broke down", one) for one in broken[:NAMED]]
    if len(broken) > NAMED:
        rows.append(("broke down", f"{len(broken) - NAMED:,} more, see coterie.json"))
    return facts(rows, "Cost")
