"""`coterie heal DIR --output OUT`."""

from coterie.cli.show import Display, show
from coterie.verbs.after_cut.heal_request import HealRequest
from coterie.verbs.options.run import AfterRun


def command(request: HealRequest, run: AfterRun) -> None:
    """Heal a cut checkpoint: let it learn from the model it was cut from.

    The full model is loaded once. All its layers teach, the kept ones learn to predict the same,
    and what they learned is merged into an ordinary checkpoint in the dtype of DIR, judged on
    held-out text before and after. Stopped at any moment, the same command goes on where it was.
    With --teacher-cache the full model is asked once and unloaded before the cut one is loaded.

    Examples: coterie heal small --output healed;
    coterie heal small --teacher Qwen/Qwen3-0.6B --text corpus.jsonl --minutes 30 --output healed
    """
    from coterie.report.terminal.after_cut import print_after
    from coterie.verbs.after_cut.heal import heal
    from coterie.verbs.after_cut.record import Parts

    def act(progress: Display) -> Parts:
        # Ctrl-C in here is safe: training writes its state as it goes.
        return heal(
            request,
            output=run.output,
            overwrite=run.overwrite,
            store=run.store,
            progress=progress,
        )

    show(act, lambda done: print_after(done.part), run)
