"""`prune` as it is asked for: the cut alone, or with what is done before and after it."""

from pathlib import Path

from coterie.verbs.prune import plan, run, stages, stages_plan
from coterie.verbs.prune.request import PruneRequest
from coterie.verbs.prune.stages import After
from coterie.verbs.shared.progress import NoProgress, Progress
from coterie.verbs.shared.result import Result


def prune(
    request: PruneRequest,
    *,
    output: Path | str,
    overwrite: bool = False,
    store: Path | str | None = None,
    progress: Progress | None = None,
) -> Result:
    """Cut the players a model can best do without, write the checkpoint, and prove it.

    A run that has finished in ``output`` with the same request and the same weights is reported
    again and nothing is done.

    >>> from coterie import PruneRequest, prune
    >>> asked = PruneRequest("reference", remove=2, method="one-shot", sequences=2, length=16)
    >>> found = prune(asked, output=folder / "out", store=folder / "store.sqlite")
    >>> len(found.kept), len(found.removed), found.record.verdict.ratio > 1
    (14, 2, True)

    Args:
        request: Which model, how much of it goes, and what follows.
        output: Folder for the checkpoint; written aside and renamed when all is well.
        overwrite: Replace a checkpoint that is there.
        store: SQLite file of observations; None is the user's cache.
        progress: Told what is being done, and how far it has come.

    Raises:
        UserError: something asked cannot be done, in one line; nothing was written.
        VerificationError: the reloaded checkpoint is not the model that was measured.
    """
    progress = progress or NoProgress()
    if not request.has_more_stages:
        return run.prune_alone(
            request, output=output, overwrite=overwrite, store=store, progress=progress
        )
    # The stages ask for the cut by a request that has no stages itself.
    record = stages.prune_and_after(
        request.cut_alone(),
        _after(request),
        output=output,
        overwrite=overwrite,
        store=store,
        progress=progress,
    )
    return Result(record)


def prune_plan(
    request: PruneRequest,
    *,
    output: Path | str,
    overwrite: bool = False,
    store: Path | str | None = None,
    progress: Progress | None = None,
) -> Result:
    """What `prune` would do and cost; the model is loaded, and nothing is written.

    Args:
        request: Which model, how much of it goes, and what follows.
        output: Folder for the checkpoint.
        overwrite: Replace a checkpoint that is there.
        store: SQLite file of observations, which is only read; None is the user's cache.
        progress: Told what is being done, and how far it has come.

    Raises:
        UserError: something asked cannot be done, in one line.
    """
    progress = progress or NoProgress()
    if not request.has_more_stages:
        return Result(
            plan.plan_layers(
                request, output=output, overwrite=overwrite, store=store, progress=progress
            )
        )
    # The plan of the cut first; the work of the other stages is added to it.
    record = stages_plan.plan_and_after(
        request.cut_alone(),
        _after(request),
        output=output,
        overwrite=overwrite,
        store=store,
        progress=progress,
    )
    return Result(record)


def _after(request: PruneRequest) -> After:
    # Without a text of its own, healing takes its default one.
    return After(
        request.quantize, request.quantize_first, request.heal, repair=request.repair_asked
    )
