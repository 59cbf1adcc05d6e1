"""`coterie sparsify MODEL --sparsity S --output DIR`."""

from coterie.cli.show import Display, show
from coterie.report.schema.sparsify import SparsityRecord
from coterie.report.schema.sparsify_plan import SparsityPlan
from coterie.verbs.options.run import SearchRun
from coterie.verbs.sparsify.request import SparsifyRequest


def command(request: SparsifyRequest, run: SearchRun) -> None:
    """Make weights zero inside the layers, more where a layer contributes less, and prove the cost.

    Writes an ordinary checkpoint of the same size with zeros in place. Unstructured zeros save NO
    time on ordinary hardware. What profits: 2:4 patterns on NVIDIA's sparse tensor cores (Ampere
    and later), any zeros in CPU engines that keep weights sparse, and compressed storage.
    To save time and memory anywhere, cut layers: coterie prune.

    Observes coalitions of layers on a calibration text, turns contributions into sparsities,
    prunes layer by layer, reloads and counts, and judges on held-out text. Stopped at any moment,
    the same command goes on with the coalitions observed so far; allocations are judged and layers
    pruned again. --dry-run states the cost first.

    Examples: coterie sparsify reference --sparsity 0.6 --output sparse;
    coterie sparsify reference --pattern 2:4 --pruner sparsegpt --allocation uniform --output s24
    """
    # A dry run returns another type and prints another report: two short paths.
    if run.dry_run:
        from coterie.report.terminal.sparsify_plan import print_sparsity_plan

        def plan(progress: Display) -> SparsityPlan:
            from coterie.verbs.sparsify.plan import sparsify_plan

            return sparsify_plan(
                request,
                output=run.output,
                overwrite=run.overwrite,
                store=run.store,
                progress=progress,
            )

        return show(plan, print_sparsity_plan, run)

    from coterie.report.terminal.sparsify import print_sparsity

    # Imported inside: the verb loads torch, and `--help` must not.
    def act(progress: Display) -> SparsityRecord:
        from coterie.verbs.sparsify.run import sparsify

        return sparsify(
            request,
            output=run.output,
            overwrite=run.overwrite,
            store=run.store,
            progress=progress,
        )

    return show(act, print_sparsity, run)
