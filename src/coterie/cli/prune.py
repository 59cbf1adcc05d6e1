"""`coterie prune MODEL --remove N --output DIR`."""

from coterie.cli.show import Display, show
from coterie.verbs.options.run import PruneRun
from coterie.verbs.prune.request import PruneRequest


def command(request: PruneRequest, run: PruneRun) -> None:
    """Cut the layers a model can best do without, and prove what that cost.

    Observes many coalitions of layers on a calibration text, keeps the one that predicts best on
    that text and a second one, writes an ordinary checkpoint into DIR that plain `from_pretrained`
    loads, checks it, and judges it on held-out text. What stays is then refitted in closed form to
    stand in for what went (--repair none leaves it as it was cut). Stopped at any moment, the same
    command goes on where it was; with another --remove nothing is evaluated twice. The verdict
    comes in words first: close, damaged, heavily damaged, or broken. With --utility, answers to
    zero-shot tasks choose, alone or mixed with the loss.

    Examples: coterie prune reference --remove 4 --output out;
    coterie prune meta-llama/Llama-3.2-1B --target-params 0.75 --output small --time 20m;
    coterie prune MODEL --remove 4 --utility piqa=0.5,kl=0.5 --output able
    """
    from coterie.report.schema.record import Record
    from coterie.report.terminal.after_cut import print_after
    from coterie.report.terminal.after_prune import print_next
    from coterie.report.terminal.utilities import print_mixed
    from coterie.verbs.prune.limit import check_loss
    from coterie.verbs.prune.whole import prune, prune_plan
    from coterie.verbs.shared.result import Result

    records: list[Record] = []

    def act(progress: Display) -> Result:
        # Both take the same arguments and return a result with a record.
        do = prune_plan if run.dry_run else prune
        found = do(
            request,
            output=run.output,
            overwrite=run.overwrite,
            store=run.store,
            progress=progress,
        )
        records.append(found.record)
        return found

    def print_all(found: Result) -> None:
        print_mixed(found.record, verbose=run.verbose)
        for part in found.record.after or []:
            # One part for each of heal, quantize and repair, in the order they ran.
            print_after(part)
        print_next(found.record, request.model, run.output)

    show(act, print_all, run)
    # After the report: a script reads the exit code, and a person the reason.
    for record in records:
        check_loss(record, run.max_loss)
