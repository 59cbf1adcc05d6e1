"""Who reads a checkpoint rightly, as a terminal and a model card both say it."""

from coterie.report.schema.basics import ServingPart


def served(parts: list[ServingPart]) -> list[tuple[str, str]]:
    """Runtimes by how they read a checkpoint: the heading, and who and why."""
    rows = []
    for title, reads in (
        ("loads rightly in", "rightly"),
        ("read wrongly by", "wrongly"),
        ("not run in", "not run"),
    ):
        found = [_named(one) for one in parts if one.reads == reads]
        if found:
            rows.append((title, "; ".join(found)))
    return rows


def _named(one: ServingPart) -> str:
    return one.runtime if one.remark is None else f"{one.runtime} ({one.remark})"
