"""`values --utility`: what every player contributes to a mix of utilities, and to each of them."""

from pathlib import Path

from coterie.report.schema.utilities import UtilityReport
from coterie.verbs.search.mix import UNIT, mixed, of_mix, studied_part, utility_part
from coterie.verbs.search.paper import paper_study
from coterie.verbs.search.record import searched_record
from coterie.verbs.search.task_utilities import tasks_of
from coterie.verbs.shared.prepared import prepare
from coterie.verbs.shared.progress import Progress
from coterie.verbs.shared.workspace import open_workspace
from coterie.verbs.values.request import ValuesRequest


def utility_values(
    request: ValuesRequest, *, store: Path | str | None, progress: Progress
) -> UtilityReport:
    """What every player contributes to a mix of utilities, and to each of them.

    Args:
        request: What was asked, already checked: tasks may be fetched over the network.
        store: SQLite file of observations; None is the user's cache.
        progress: Shows what goes on.

    Raises:
        UserError: something asked cannot be done, in one line.
    """
    tasks = tasks_of(request)
    prepared = prepare(request, progress=progress)
    with open_workspace(prepared, store=store, progress=progress) as workspace:
        mix = mixed(workspace, tasks, progress)
        study = mix.study(progress.step)
        searched = paper_study(workspace, mix, study, mix.known)
        record = searched_record("values", workspace, searched)
        of_mix(record, request)
        # The study above left every observation in the store: these ask nothing new.
        single = [
            utility_part(one, studied_part(mix.alone(one), progress.step)) for one in mix.parts
        ]
        return UtilityReport(record=record, unit=UNIT, items=request.task_items, parts=single)
