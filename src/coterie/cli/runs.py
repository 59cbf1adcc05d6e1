"""`coterie runs`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from coterie.cli.show import show
from coterie.verbs.options.run import StoredRun
from coterie.verbs.runs_request import RunsRequest

if TYPE_CHECKING:
    from coterie.verbs.runs import Runs


@dataclass(frozen=True, kw_only=True)
class RunsRun(StoredRun):
    """Which store is looked into."""


def command(request: RunsRequest, run: RunsRun) -> None:
    """List what the store holds, and the folders that earlier runs left; clear what is named.

    Observations are kept so that a run goes on where it was and nothing is evaluated twice; to
    clear them loses time and no checkpoint.

    Examples: coterie runs; coterie runs --clear gone; coterie runs --clear all
    """
    from coterie.verbs.runs import runs

    show(lambda _: runs(request, store=run.store), _print, run, quiet_libraries=False)


def _print(found: "Runs") -> None:
    from coterie.report import words as w

    print(f"{found.store}: {w.size(found.bytes)}")
    if found.cleared:
        print(f"  {found.cleared:,} observations forgotten")
    for one in found.models:
        print(f"  {one.model}: {one.observations:,} observations in {one.games} games")
    if not found.models:
        print("  no observation yet")
    for folder in found.folders:
        state = folder.verdict or ("" if folder.is_there else "no longer there")
        print(f"{folder.folder}: {folder.model}; {state}")
