"""`coterie cut MODEL --layers 3,7-9 --output DIR`."""

from typing import TYPE_CHECKING

from coterie.cli.show import Display, show
from coterie.verbs.checkpoint_requests import CutRequest
from coterie.verbs.options.run import CheckpointRun

if TYPE_CHECKING:
    from coterie.verbs.cut import Cut


def command(request: CutRequest, run: CheckpointRun) -> None:
    """Cut named layers out of a checkpoint, shard by shard, and check the result.

    Examples: coterie cut reference --layers 3,7-9 --output out;
    coterie cut reference --layers 3,7-9 --held-out stdlib --output out;
    coterie cut Qwen/Qwen3-0.6B --list layer_drop_config.txt --output small;
    coterie cut MODEL --layers 12-19 --text corpus.txt --output small
    """
    from coterie.verbs.cut import cut

    def act(progress: Display) -> "Cut":
        return cut(request, output=run.output, overwrite=run.overwrite, progress=progress)

    show(act, lambda done: _print(done, run.output.name), run)


def _print(done: "Cut", name: str) -> None:
    gone = ", ".join(str(layer) for layer in done.layers)
    print(f"{name}: {len(done.kept)} layers kept, {gone} cut,")
    print(f"  {done.written.n_parameters:,} parameters, {done.written.n_bytes:,} bytes")
    # Two copies did not fit, or none was to be loaded, so logits were not compared: say so.
    if done.verification is None:
        print("  checked in structure only: no model was loaded to compare logits with")
    else:
        gap = done.verification.max_logit_difference
        print(f"  reloaded: logits within {gap:.1e} of the model with those layers skipped")
    if done.judged is not None:
        from coterie.report.terminal.cut import print_judged

        print_judged(done.judged.verdict)
    if done.repaired is not None:
        from coterie.report.terminal.after_cut import print_after

        print_after(done.repaired)
