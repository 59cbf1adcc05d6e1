"""`coterie prune MODEL --remove N --output DIR`."""

from coterie.cli.show import Display, show
from coterie.verbs.options.run import SearchRun
from coterie.verbs.prune.request import PruneRequest


def command(request: PruneRequest, run: SearchRun) -> None:
    """Cut the layers a model can best do without, and prove what that cost.

    Observes many coalitions of layers on a calibration text, keeps the one that predicts best on
    that text and a second one, writes an ordinary checkpoint into DIR that plain `from_pretrained`
    loads, checks it, and judges it on held-out text. Stopped at any moment, the same command goes
    on where it was; with another --remove nothing is evaluated twice. With --utility, answers to
    zero-shot tasks choose, alone or mixed with the loss.

    Examples: coterie prune reference --remove 4 --output out;
    coterie prune meta-llama/Llama-3.2-1B --target-params 0.75 --output small --time 20m;
    coterie prune MODEL --remove 4 --utility piqa=0.5,kl=0.5 --output able
    """
    from coterie.report.terminal.after_cut import print_after
    from coterie.report.terminal.utilities import print_mixed
    from coterie.verbs.prune.whole import prune, prune_plan
    from coterie.verbs.shared.result import Result

    def act(progress: Display) -> Result:
        # Both take the same arguments and return a result with a record.
        do = prune_plan if run.dry_run else prune
        return do(
            request,
            output=run.output,
            overwrite=run.overwrite,
            store=run.store,
            progress=progress,
        )

    def print_all(found: Result) -> None:
        print_mixed(found.record)
        for part in found.record.after or []:
            # One part for each of heal, quantize and repair, in the order they ran.
            print_after(part)

    show(act, print_all, run)
