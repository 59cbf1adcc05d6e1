"""`coterie compare MODEL --remove 3,6,9`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from coterie.cli.show import Display, show
from coterie.report.schema.compare import Comparison
from coterie.verbs.compare.request import CompareRequest
from coterie.verbs.options.declare import Option
from coterie.verbs.options.run import Config, DryRun, Report, Stored


@dataclass(frozen=True, kw_only=True)
class CompareRun(Report, Config, DryRun, Stored):
    """Where `compare` writes its table, if anywhere."""

    output: Annotated[
        Path | None,
        Option(
            "--output",
            "DIR",
            "Folder for comparison.json, .md, .csv and .svg; without it the table is printed.",
            short="-o",
        ),
    ] = None
    # Fields of this command alone; those that verbs share live in verbs/options.
    overwrite: Annotated[
        bool, Option("--overwrite", "", "Replace another comparison that is in DIR.")
    ] = False


def command(request: CompareRequest, run: CompareRun) -> None:
    """Play published methods against each other: same model, same texts, cost beside quality.

    Every method chooses which layers go and is judged on the same held-out text, with standard
    errors of paired differences against the full model and against the best. The paper's method
    calibrates on its published 10 sequences, the others on --sequences. Observations are shared
    through the store, cost is stated as if each method were alone. Stopped at any moment, the same
    command goes on where it was; a method that does not apply leaves a gap that says why.

    Examples: coterie compare reference --remove 2,4,6 --output table;
    coterie compare reference --remove 4 --methods guided,sleb,shortgpt --seeds 1
    """
    # A dry run returns another type and prints another report: two short paths.
    if run.dry_run:
        from coterie.report.terminal.prune import print_record
        from coterie.verbs.shared.result import Result

        def plan(progress: Display) -> Result:
            from coterie.verbs.compare.plan import compare_plan

            return compare_plan(request, store=run.store, progress=progress)

        return show(plan, lambda found: print_record(found.record), run)

    from coterie.report.terminal.compare import print_comparison

    # Imported inside: the verb loads torch, and `--help` must not.
    def act(progress: Display) -> Comparison:
        from coterie.verbs.compare.run import compare

        return compare(
            request,
            output=run.output,
            overwrite=run.overwrite,
            store=run.store,
            progress=progress,
        )

    return show(act, print_comparison, run)
