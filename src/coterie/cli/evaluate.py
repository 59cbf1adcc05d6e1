"""`coterie evaluate MODEL…`."""

from coterie.cli.show import Display, show
from coterie.report.schema.evaluate import Judgement
from coterie.verbs.evaluate.request import EvaluateRequest
from coterie.verbs.options.run import StoredRun


def command(request: EvaluateRequest, run: StoredRun) -> None:
    """Score models on held-out text and zero-shot tasks, side by side.

    Prints perplexity and accuracies with standard errors, and for every model after the first the
    paired difference to it: on tasks with McNemar's test, a paired bootstrap, and whether the
    model is shown to be no worse than --margin; on text with KL, and what both write. Text is read
    in consecutive windows of --length tokens that do not overlap. Every score is kept in the store
    and not measured twice; a run that was stopped goes on where it was.

    Examples: coterie evaluate reference out;
    coterie evaluate Qwen/Qwen3-0.6B small --text wikitext-2 --length 2048 --tasks paper;
    coterie evaluate reference --tasks piqa --tasks-dir tasks;
    coterie evaluate --logs logs/full logs/cut
    """
    from coterie.report.terminal.evaluate import print_judgement
    from coterie.report.terminal.significance import print_logs

    if request.logs:
        # Files alone: no model is loaded, and no torch.
        from coterie.verbs.evaluate.significance import compare_logs

        return show(lambda _: compare_logs(request), print_logs, run)

    # Imported inside: the verb loads torch, and `--help` must not.
    def act(progress: Display) -> Judgement:
        from coterie.verbs.evaluate.run import evaluate

        return evaluate(request, store=run.store, progress=progress)

    return show(act, print_judgement, run)
