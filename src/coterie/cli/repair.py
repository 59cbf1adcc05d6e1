"""`coterie repair DIR --output OUT`."""

from coterie.cli.show import Display, show
from coterie.verbs.after_cut.repair_request import RepairRequest
from coterie.verbs.options.run import AfterRun


def command(request: RepairRequest, run: AfterRun) -> None:
    """Repair a cut checkpoint: what stays is refitted to stand in for what went, without training.

    Least squares on a text, against the model DIR was cut from, folded into weights the checkpoint
    has anyway: it loads everywhere and runs no slower. Judged on held-out text before and after.

    Examples: coterie repair small --output repaired;
    coterie repair small --teacher Qwen/Qwen3-0.6B --text corpus.jsonl --output repaired
    """
    from coterie.report.terminal.after_cut import print_after
    from coterie.verbs.after_cut.record import Parts
    from coterie.verbs.after_cut.repair import repair

    def act(progress: Display) -> Parts:
        return repair(
            request,
            output=run.output,
            overwrite=run.overwrite,
            store=run.store,
            progress=progress,
        )

    show(act, lambda done: print_after(done.part), run)
