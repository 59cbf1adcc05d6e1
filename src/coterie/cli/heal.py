"""`coterie heal DIR --output OUT`."""

from coterie.cli.show import Display, show
from coterie.report.schema.plan import HealPlan
from coterie.verbs.after_cut.heal_request import HealRequest
from coterie.verbs.options.run import HealRun


def command(request: HealRequest, run: HealRun) -> None:
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

    if run.dry_run:
        from coterie.report.terminal.heal_plan import print_heal_plan
        from coterie.verbs.after_cut.heal_plan import heal_plan

        def state(progress: Display) -> HealPlan:
            return heal_plan(
                request,
                output=run.output,
                overwrite=run.overwrite,
                store=run.store,
                progress=progress,
            )

        return show(state, print_heal_plan, run)

    def act(progress: Display) -> Parts:
        # Ctrl-C in here is safe: training writes its state as it goes.
        return heal(
            request,
            output=run.output,
            overwrite=run.overwrite,
            store=run.store,
            progress=progress,
        )

    return show(act, lambda done: print_after(done.part), run)
