"""`compare`: methods under one evaluator, at stated cost, every finished cell kept.

A method plays once per seed and answers every number removed. What it chose and what it cost is
noted in the store, and so is how each answer was judged: a run that was killed goes on from there
and ends in the same table.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from coterie.models.families.fields import text_config
from coterie.plain import Json
from coterie.repair.amount import sequences_to_fit
from coterie.report.schema.compare import Comparison
from coterie.scores.task_definitions import load_groups
from coterie.scores.tasks import task_fingerprint
from coterie.store.notes import Notes
from coterie.texts.sets import TextSet
from coterie.verbs.compare.cells import Cell
from coterie.verbs.compare.evaluator import Evaluator, RepairTexts
from coterie.verbs.compare.methods import methods, ranks
from coterie.verbs.compare.output import COMPARISON, ended_comparison, write_comparison
from coterie.verbs.compare.playing import ComparisonRun
from coterie.verbs.compare.record import Asked, assemble
from coterie.verbs.compare.rehearsal import rehearse_comparison
from coterie.verbs.compare.request import CompareRequest
from coterie.verbs.compare.texts import judging_texts
from coterie.verbs.outputs.finished import FinishedRun
from coterie.verbs.outputs.place import OutputFolder
from coterie.verbs.shared.entry import public
from coterie.verbs.shared.prepared import Prepared, divided, fitting_texts, prepare
from coterie.verbs.shared.progress import NoProgress, Progress
from coterie.verbs.shared.request import SEQUENCES
from coterie.verbs.shared.workspace import Workspace, open_workspace

if TYPE_CHECKING:
    from lm_eval.api.task import Task as Zeroshot

Groups = Mapping[str, Mapping[str, "Zeroshot"]]


@public
def compare(
    request: CompareRequest,
    *,
    output: Path | str | None = None,
    overwrite: bool = False,
    store: Path | str | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Play methods on one model and judge all of them on the same held-out texts and tasks.

    >>> from coterie import CompareRequest, compare
    >>> contest = {"removals": (1,), "methods": ("one-shot", "contiguous"), "rounds": 0}
    >>> asked = CompareRequest("reference", sequences=2, length=16, **contest)
    >>> [row.method for row in compare(asked, store=folder / "store.sqlite").rows]
    ['one-shot', 'contiguous']

    Args:
        output: Folder for `comparison.json`, `.md`, `.csv` and `.svg`; None writes none.
        overwrite: Replace another comparison that is there.
        store: SQLite file of observations; None is the user's cache.
        request: Which methods, at which sizes, on which model.
        progress: Shows what is being done.

    Raises:
        UserError: something asked cannot be done, in one line.
    """
    request.check()
    progress = progress or NoProgress()
    # Where it is written is checked before anything is loaded.
    place = before = None
    if output is not None:
        place = OutputFolder(output, request, overwrite=overwrite, store=store, content=COMPARISON)
        before = FinishedRun(place, ended=ended_comparison)
    # What all are judged on, decided once for every method.
    prepared = prepare(request.opening(), progress=progress)
    texts = judging_texts(prepared, request.lengths)
    groups: Groups = load_groups(request.tasks, request.tasks_dir) if request.tasks else {}
    identity = _identity(request, prepared, texts, groups)

    # Done already: the comparison that is there answers.
    if before and (done := before.same(identity, progress, source=prepared.source.folder)):
        return done

    rehearse_comparison(place, Asked(request, prepared, texts, identity))
    own = request.limit, request.rounds, _repair_texts(request, prepared)
    evaluator = Evaluator(texts, groups, *own)
    found = _run(request, prepared, evaluator, identity=identity, store=store, progress=progress)
    if place is not None:
        write_comparison(found, place)
    return found


def _repair_texts(request: CompareRequest, prepared: Prepared) -> RepairTexts | None:
    """The same texts for the answers of all methods, none of which chooses or judges."""
    if not request.repairs:
        return None
    config, length = text_config(prepared.source.config()), prepared.calibration.length
    most = sequences_to_fit(config, length, prepared.device.type)
    select = prepared.second or prepared.calibration
    return RepairTexts(str(request.repair), fitting_texts(prepared, most), select)


def _identity(
    request: CompareRequest, prepared: Prepared, texts: Mapping[str, TextSet], groups: Groups
) -> dict[str, Json]:
    return {
        **prepared.identity({**prepared.request.as_json(), **request.as_json()}),
        "judged_on": {name: text.sha256 for name, text in texts.items()},
        "items": {
            name: {task: task_fingerprint(one, request.limit) for task, one in members.items()}
            for name, members in groups.items()
        },
    }


def _run(
    request: CompareRequest,
    prepared: Prepared,
    evaluator: Evaluator,
    *,
    identity: Mapping[str, Json],
    store: Path | str | None,
    progress: Progress,
) -> Comparison:
    """Play every method on its texts, then assemble the report once."""
    # A method without chance would give the same answer at every seed.
    seeds = {name: request.seeds if methods()[name].chancy else 1 for name in request.played}
    cells: list[Cell] = []
    total, done = sum(seeds.values()), 0

    def play_on(workspace: Workspace, members: tuple[str, ...]) -> ComparisonRun:
        nonlocal done
        game = workspace.calibration.game
        notes = Notes(game.store, game.store.game({"kind": "compare", "of": game.number}))
        run = ComparisonRun(
            request=request,
            workspace=workspace,
            evaluator=evaluator,
            notes=notes,
            key=_key(identity),
            progress=progress,
        )
        for name in members:
            for seed in range(seeds[name]):
                progress.step("methods", done, total)
                progress.say(f"{methods()[name].title}, seed {seed}")
                answered = list(run.cells(name, seed))
                cells.extend(answered)
                if request.repairs:
                    cells.extend(run.repaired(answered))
                done += 1
        progress.step("methods", done, total)
        return run

    # The last part opens the workspace that the report describes, and judges the full model.
    *earlier, (part, members) = _parts(prepared, request.played)
    for before, few in earlier:
        with open_workspace(before, store=store, progress=progress) as workspace:
            play_on(workspace, few)
    with open_workspace(part, store=store, progress=progress) as workspace:
        full = play_on(workspace, members).full()
        asked = Asked(request, prepared, evaluator.texts, identity)
        return assemble(asked, workspace, full, cells)


def _parts(
    prepared: Prepared, names: tuple[str, ...]
) -> Iterator[tuple[Prepared, tuple[str, ...]]]:
    """Who plays on which texts: the paper's method on its published ten sequences, as `prune`.

    They are the first of everybody's, so that no text is new and judges stay apart.
    """
    rankings = tuple(name for name in names if ranks(name))
    if rankings:
        own = replace(prepared.request, method=rankings[0])
        few = prepared.calibration
        if prepared.request.sequences is None and few.n_sequences > SEQUENCES:
            few, _ = divided(few, SEQUENCES)
        yield replace(prepared, request=own, calibration=few, second=None), rankings
    if others := tuple(name for name in names if name not in rankings):
        yield prepared, others


def _key(identity: Mapping[str, Json]) -> str:
    wanted = ("weights", "judged_on", "items", "limit", "rounds", "bos", "coterie")
    text = json.dumps({name: identity[name] for name in wanted}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
