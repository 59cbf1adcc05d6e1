"""`prune` as it is asked for: the cut alone, or with what is done before and after it."""

from collections.abc import Callable
from pathlib import Path

from coterie.errors import UserError
from coterie.verbs.prune.after import After
from coterie.verbs.prune.destination import Destination
from coterie.verbs.prune.limit import check_loss
from coterie.verbs.prune.plan import plan_layers
from coterie.verbs.prune.request import PruneRequest
from coterie.verbs.prune.run import prune_alone
from coterie.verbs.prune.stages import prune_and_after
from coterie.verbs.prune.stages_plan import plan_and_after
from coterie.verbs.shared.entry import public
from coterie.verbs.shared.progress import NoProgress, Progress
from coterie.verbs.shared.result import Result


@public
def prune(
    request: PruneRequest,
    *,
    output: Path | str,
    overwrite: bool = False,
    store: Path | str | None = None,
    max_loss: float | None = None,
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
        max_loss: Nats per token that held-out loss may rise by; None allows anything.
        progress: Told what is being done, and how far it has come.

    Raises:
        UserError: something asked cannot be done, in one line; nothing was written.
        VerificationError: the reloaded checkpoint is not the model that was measured.
        LossError: held-out loss rises by more than allowed; the checkpoint stays.
    """
    if max_loss is not None and not max_loss > 0:
        raise UserError(f"max_loss of prune is {max_loss:g}: give nats above 0")
    to = Destination(Path(output), overwrite, store, progress or NoProgress())
    found = _in_stages(request, to, prune_alone, prune_and_after)
    check_loss(found.record, max_loss)
    return found


@public
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
    to = Destination(Path(output), overwrite, store, progress or NoProgress())
    return _in_stages(request, to, plan_layers, plan_and_after)


def _in_stages(
    request: PruneRequest,
    to: Destination,
    alone: Callable[[PruneRequest, Destination], Result],
    composed: Callable[[PruneRequest, After, Destination], Result],
) -> Result:
    if not request.has_more_stages:
        return alone(request, to)
    # The stages ask for the cut by a request that has no stages itself.
    return composed(request.cut_alone(), After.of(request), to)
