"""`coterie values MODEL`."""

import json

from coterie.cli.show import Display, show
from coterie.verbs.options.run import ValuesRun
from coterie.verbs.values.request import ValuesRequest


def command(request: ValuesRequest, run: ValuesRun) -> None:
    """Estimate what each layer contributes, and stop: prune without the cut.

    Observes coalitions of layers of several sizes on a calibration text, fits the surrogate,
    reports how faithful it is, and every layer's contribution with its standard errors by source.

    Also: the best coalition of every size (--front), how much of the answer is stable (--repeats),
    contributions from the true game (--estimator), which layers stand in for each other
    (--interactions).

    Example: coterie values reference --budget 512
    """
    from coterie.report.terminal.prune import print_record
    from coterie.report.terminal.utilities import print_utilities
    from coterie.verbs.outputs.output_file import OutputFile
    from coterie.verbs.outputs.reads import reads_of
    from coterie.verbs.shared.result import Result
    from coterie.verbs.values.run import values

    place = None
    if run.output is not None:
        # Refused now, not when all is computed: a folder, or a file that is read.
        place = OutputFile(run.output, "--output", reads_of(request, run.store))
        place.check()

    def act(progress: Display) -> Result:
        if run.dry_run:
            from coterie.verbs.values.plan import values_plan

            return values_plan(request, store=run.store, progress=progress)
        found = values(request, store=run.store, progress=progress)
        if place is not None:
            place.write(json.dumps(found.as_json(), indent=2, ensure_ascii=False) + "\n")
        return found

    def print_found(found: Result) -> None:
        # A mix of utilities has a report of its own: one column for each of them.
        if found.utilities is not None:
            print_utilities(found.utilities)
        else:
            print_record(found.record, verbose=run.verbose)

    show(act, print_found, run)
