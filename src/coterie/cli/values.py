"""`coterie values MODEL`."""

from coterie.cli.show import Display, show
from coterie.verbs.options.run import StoredRun
from coterie.verbs.values.request import ValuesRequest


def command(request: ValuesRequest, run: StoredRun) -> None:
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
    from coterie.verbs.shared.result import Result
    from coterie.verbs.values.run import values

    def act(progress: Display) -> Result:
        return values(request, store=run.store, progress=progress)

    def print_found(found: Result) -> None:
        # A mix of utilities has a report of its own: one column for each of them.
        if found.utilities is not None:
            print_utilities(found.utilities)
        else:
            print_record(found.record)

    show(act, print_found, run)
