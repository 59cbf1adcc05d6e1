"""The tables of docs/runtimes.md, written from the results of a run."""

from collections.abc import Mapping
from datetime import date
from pathlib import Path

from compare import Outcome

BEGIN, END = "<!-- runs -->", "<!-- /runs -->"


def write_page(
    page: Path,
    results: Mapping[Path, Mapping[str, Outcome]],
    versions: Mapping[str, str],
    command: str,
) -> None:
    """Write the tables between the page's two marks.

    Args:
        page: The page.
        results: How each runtime read each checkpoint.
        versions: What ran, by column.
        command: How it is run again.
    """
    text = page.read_text(encoding="utf-8")
    before, after = text[: text.index(BEGIN)], text[text.index(END) :]
    page.write_text(f"{before}{BEGIN}\n\n{_tables(results, versions, command)}\n{after}")


def _tables(
    results: Mapping[Path, Mapping[str, Outcome]], versions: Mapping[str, str], command: str
) -> str:
    columns = list(next(iter(results.values())))
    ran = ", ".join(f"{name} {version}" for name, version in versions.items())
    lines = [
        f"Run on {date.today().isoformat()} on a CPU, in float32: {ran}.",
        "",
        f"    {command}",
        "",
        f"| family | cut | {' | '.join(columns)} |",
        f"|{'---|' * (2 + len(columns))}",
    ]
    for case, found in results.items():
        whole = results.get(case.with_name("whole"), found)
        cells = [_cell(found[one], whole[one], case.name == "whole") for one in columns]
        lines.append(f"| {case.parent.name} | {case.name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(found: Outcome, whole: Outcome, is_whole: bool) -> str:
    remark = found.remark.replace("|", "/")
    told = f"{found.word} ({remark})" if remark else found.word
    # What a runtime does to the uncut model has nothing to do with a cut.
    theirs = found.word in ("differs", "refused") and whole.word == found.word and not is_whole
    return f"{told}: uncut too" if theirs else told
