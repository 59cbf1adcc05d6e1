"""`compare`: methods under one evaluator, at stated cost, every finished cell kept.

A method plays once per seed and answers every number removed. What it chose and what it cost is
noted in the store, and so is how each answer was judged: a run that was killed goes on from there
and ends in the same table.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from coterie.errors import UserError
from coterie.game.coalitions import from_text, to_text
from coterie.models.loaded.stack import Players
from coterie.plain import Json
from coterie.report.schema.compare import Comparison
from coterie.rivals import Outcome, Rewrite, Selection
from coterie.scores.speed import peak_memory
from coterie.scores.task_definitions import load_groups
from coterie.scores.tasks import task_fingerprint
from coterie.store.observations import Notes
from coterie.texts.sets import TextSet
from coterie.verbs.compare.judge import Judge
from coterie.verbs.compare.methods import methods, play, ranks
from coterie.verbs.compare.output import check_place, ended_comparison, write_comparison
from coterie.verbs.compare.record import Asked, Cell, assemble
from coterie.verbs.compare.request import CompareRequest
from coterie.verbs.compare.texts import judging_texts
from coterie.verbs.shared.finished import FinishedRun
from coterie.verbs.shared.prepared import Prepared, divided, prepare
from coterie.verbs.shared.progress import NoProgress, Progress
from coterie.verbs.shared.request import SEQUENCES
from coterie.verbs.shared.workspace import Workspace, open_workspace

if TYPE_CHECKING:
    from lm_eval.api.task import Task as Zeroshot

Groups = Mapping[str, Mapping[str, "Zeroshot"]]


def compare(
    request: CompareRequest,
    *,
    output: Path | str | None = None,
    overwrite: bool = False,
    store: Path | str | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Play methods on one model and judge all of them on the same held-out texts and tasks.

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
    folder = None if output is None else Path(output)
    place = None
    if folder is not None:
        place = FinishedRun(folder, overwrite=overwrite, ended=ended_comparison, check=check_place)
    prepared = prepare(request.opening(), progress=progress)
    texts = judging_texts(prepared, request.lengths)
    groups: Groups = load_groups(request.tasks, request.tasks_dir) if request.tasks else {}
    identity = _identity(request, prepared, texts, groups)
    if place and (done := place.same(identity, progress, source=prepared.source.folder)):
        return done
    judge = Judge(texts, groups, request.limit, request.rounds)
    found = _run(request, prepared, judge, identity, store, progress)
    if folder is not None:
        write_comparison(found, folder)
    return found


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


@dataclass(frozen=True, eq=False)
class _Run:
    """One comparison under way, on one opened model."""

    request: CompareRequest
    workspace: Workspace
    judge: Judge
    notes: Notes
    key: str
    """What a judgement depends on beside the answer."""
    progress: Progress

    def cells(self, name: str, seed: int) -> Iterator[Cell]:
        """Every cell of one method and seed: from the notes, or played and judged now."""
        answers = ",".join(map(str, self.request.removals))
        sequences = self.workspace.calibration.texts.sha256
        limits = self.request
        asked = f"{name} {seed} {answers} {sequences} {self.workspace.locked}"
        asked += f" {limits.budget} {limits.time}"
        known, fresh = self.notes.read(f"played {asked}"), None
        if known is None:
            known, fresh = self._play(name, seed)
            known = self.notes.write(f"played {asked}", known)
        assert isinstance(known, dict)
        for removal in self.request.removals:
            told = _of(known["chosen"], str(removal))
            if told is None:
                yield Cell(name, removal, seed, str(known["gap"]), None, [], known)
                continue
            assert isinstance(told, dict)
            if "rewrite" in told:
                note = f"judged {asked} {removal} {self.key}"
                judged = self.notes.read(note)
                if judged is None:
                    if fresh is None:
                        _, fresh = self._play(name, seed)
                    judged = self.notes.write(note, self._rewritten(fresh, removal))
                yield _cell(name, removal, seed, told, [judged], known)
                continue
            yield _cell(name, removal, seed, told, self._selected(told), known)

    def full(self) -> Cell:
        """The model as it came."""
        told: dict[str, Json] = {
            "players": "layer",
            "coalitions": ["1" * self.workspace.stack.n_players],
        }
        return _cell("full", 0, 0, told, self._selected(told), {"cost": None, "remarks": []})

    def _selected(self, told: Mapping[str, Json]) -> list[Json]:
        judgements = []
        texts, players = told["coalitions"], told["players"]
        assert isinstance(texts, list)
        for text in map(str, texts):
            note = f"judged {players} {text} {self.key}"
            judged = self.notes.read(note)
            if judged is None:
                kind: Players = "layer" if players == "layer" else "sublayer"
                coalition = from_text([text])[0]
                found = self.judge.coalition(self.workspace, coalition, kind, self.progress)
                judged = self.notes.write(note, found)
            judgements.append(judged)
        return judgements

    def _rewritten(self, outcome: Outcome | None, removal: int) -> Json:
        answer = None if outcome is None else outcome.chosen.get(removal)
        assert isinstance(answer, Rewrite)
        try:
            return self.judge.rewrite(self.workspace, answer, self.progress)
        except UserError as error:
            return {"gap": str(error)}

    def _play(self, name: str, seed: int) -> tuple[dict[str, Json], Outcome | None]:
        """Play a method: its answers and their cost as a note, or why there are none."""
        try:
            with peak_memory(self.workspace.model.device) as peak:
                outcome = play(self.workspace, name, self.request.removals, seed, self.progress)
        except UserError as error:
            return {"chosen": {}, "gap": str(error), "cost": None, "remarks": []}, None
        chosen: dict[str, Json] = {str(r): _told(a) for r, a in outcome.chosen.items()}
        remarks = list(outcome.remarks)
        note: dict[str, Json] = {
            "chosen": chosen,
            "gap": "; ".join(remarks) or "it has no answer of this size",
            "cost": {**vars(outcome.cost), "peak_bytes": peak()},
            "sequences": self.workspace.calibration.texts.n_sequences,
            "remarks": list(remarks),
        }
        return note, outcome


def _run(
    request: CompareRequest,
    prepared: Prepared,
    judge: Judge,
    identity: Mapping[str, Json],
    store: Path | str | None,
    progress: Progress,
) -> Comparison:
    """Play every method on its texts, then assemble the report once."""
    seeds = {name: request.seeds if methods()[name].chancy else 1 for name in request.played}
    cells: list[Cell] = []
    total, done = sum(seeds.values()), 0

    def play_on(workspace: Workspace, members: tuple[str, ...]) -> _Run:
        nonlocal done
        game = workspace.calibration.game
        notes = Notes(game.store, game.store.game({"kind": "compare", "of": game.number}))
        run = _Run(request, workspace, judge, notes, _key(identity), progress)
        for name in members:
            for seed in range(seeds[name]):
                progress.step("methods", done, total)
                progress.say(f"{methods()[name].title}, seed {seed}")
                cells.extend(run.cells(name, seed))
                done += 1
        progress.step("methods", done, total)
        return run

    *earlier, (part, members) = _parts(prepared, request.played)
    for before, few in earlier:
        with open_workspace(before, store=store, progress=progress) as workspace:
            play_on(workspace, few)
    with open_workspace(part, store=store, progress=progress) as workspace:
        full = play_on(workspace, members).full()
        asked = Asked(request, prepared, judge.texts, identity)
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


def _told(answer: Selection | Rewrite) -> dict[str, Json]:
    """An answer as plain data."""
    if isinstance(answer, Rewrite):
        return {"rewrite": answer.what, "players": "layer", "coalitions": [to_text(answer.kept)]}
    texts: list[Json] = [to_text(row) for row in answer.coalitions]
    return {"players": answer.players, "coalitions": texts}


def _of(chosen: Json, name: str) -> Json:
    return chosen.get(name) if isinstance(chosen, dict) else None


def _cell(
    name: str,
    removal: int,
    seed: int,
    told: Mapping[str, Json],
    judged: list[Json],
    known: Mapping[str, Json],
) -> Cell:
    first = judged[0]
    if isinstance(first, dict) and "gap" in first:
        return Cell(name, removal, seed, str(first["gap"]), None, [], known)
    return Cell(name, removal, seed, None, told, [j for j in judged if isinstance(j, dict)], known)
