"""`coterie quantize DIR --scheme int8 --output OUT`."""

from coterie.cli.show import Display, show
from coterie.verbs.after_cut.quantize_request import QuantizeRequest
from coterie.verbs.options.run import AfterRun


def command(request: QuantizeRequest, run: AfterRun) -> None:
    """Write a checkpoint in fewer bits, read it back, and judge what that cost.

    The result loads by plain `from_pretrained` where the scheme's library is installed, and must
    give the very logits of the model that was quantized, or nothing is kept. Both orders work: a
    quantized checkpoint can be cut too, with `coterie prune OUT`.

    Examples: coterie quantize small --scheme int8 --output small-int8;
    coterie quantize reference --scheme nf4 --output nf4;
    coterie quantize small --scheme gptq --environment ENV/bin/python --output small-gptq
    """
    from coterie.report.terminal.after_cut import print_after
    from coterie.verbs.after_cut.quantize import quantize
    from coterie.verbs.after_cut.record import Parts

    # Imported above, not at the top: the verb loads torch, and `--help` must not.
    def act(progress: Display) -> Parts:
        return quantize(
            request,
            output=run.output,
            overwrite=run.overwrite,
            store=run.store,
            progress=progress,
        )

    show(act, lambda done: print_after(done.part), run)
