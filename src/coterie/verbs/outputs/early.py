"""What can be refused from names alone: no model is read for it and torch is not imported."""

from pathlib import Path

from coterie.foreign import expanded, is_there
from coterie.models.files.places import REFERENCE, check_folder, is_local
from coterie.report.schema.record import Record
from coterie.verbs.options.declare import Options
from coterie.verbs.options.run import CheckpointOptions
from coterie.verbs.outputs.place import OutputFolder
from coterie.verbs.outputs.records import RECORD, as_read, read_record

_ELSEWHERE = {"device", "state_memory"}
"""Options that two runs of one outcome may differ in."""


def refuse_early(request: Options, run: Options) -> None:
    """Refuse a wrong folder, and an output that is taken by something else.

    A folder in which this very run may have finished is left to the verb, which knows its identity.

    Args:
        request: What is asked.
        run: Where its outcome goes.

    Raises:
        UserError: the model is no checkpoint, or the output cannot be used.
    """
    for model in _models(request):
        if model != REFERENCE and is_local(model):
            check_folder(expanded(model).resolve(), model)
    if not isinstance(run, CheckpointOptions) or _may_be_finished(request, run):
        return
    place = OutputFolder(
        run.output, request, overwrite=run.overwrite, store=getattr(run, "store", None)
    )
    place.check()


def _models(request: Options) -> tuple[str, ...]:
    """The models that a request is about, as they were named."""
    if getattr(request, "logs", False):
        return ()  # the arguments are folders of logs
    several = getattr(request, "models", None)
    one = getattr(request, "model", None)
    return several if isinstance(several, tuple) else (one,) if isinstance(one, str) else ()


def _may_be_finished(request: Options, run: CheckpointOptions) -> bool:
    """Whether the output holds a record, and not one of what was plainly another request."""
    if run.overwrite or not is_there(Path(run.output) / RECORD):
        return False
    record = read_record(Path(run.output))
    if not isinstance(record, Record) or record.kind != request.VERB:
        return True
    asked = as_read(request.as_json())
    decisive = (asked.keys() & record.identity.keys()) - _ELSEWHERE
    return all(asked[key] == record.identity[key] for key in decisive)
