"""Play a method and judge its answers, each once: what is noted in the store is not done again."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace

from coterie.errors import RepairError, UserError
from coterie.game.coalitions import from_text, to_text
from coterie.game.search.methods import SEARCH_METHODS
from coterie.models.loaded.stack import Players
from coterie.plain import Json
from coterie.rivals.interface import Outcome, Rewrite, Selection
from coterie.store.notes import Notes
from coterie.verbs.compare.cells import Cell, Where
from coterie.verbs.compare.evaluator import Evaluator
from coterie.verbs.compare.memory import memory_alone
from coterie.verbs.compare.methods import REPAIRED, play
from coterie.verbs.compare.ours import play_repaired
from coterie.verbs.compare.request import CompareRequest
from coterie.verbs.search.result import RepairedRounds
from coterie.verbs.shared.progress import Progress
from coterie.verbs.shared.workspace import Workspace


@dataclass(frozen=True, eq=False)
class ComparisonRun:
    """One comparison under way, on one opened model: plays methods, judges answers, notes both."""

    request: CompareRequest
    workspace: Workspace
    evaluator: Evaluator
    notes: Notes
    key: str
    """What a judgement depends on beside the answer."""
    progress: Progress

    def cells(self, name: str, seed: int) -> Iterator[Cell]:
        """Every cell of one method and seed: from the notes, or played and judged now."""
        asked = self._asked(name, seed)
        # A note that is there is not played again, whatever run wrote it.
        known, fresh = self.notes.read(f"played {asked}"), None
        if known is None:
            known, fresh = self._play(name, seed)
            known = self.notes.write(f"played {asked}", known)
        assert isinstance(known, dict)
        for removal in self.request.removals:
            where = Where(name, removal, seed)
            answer = _of(known["chosen"], str(removal))
            if answer is None:
                yield Cell(where, gap=str(known["gap"]), played=known)
                continue
            assert isinstance(answer, dict)
            if "rewrite" in answer:
                note = f"judged {asked} {removal} {self.key}"
                judged = self.notes.read(note)
                if judged is None:
                    # A rewrite is code, not data: no note holds it, so the method plays once more.
                    if fresh is None:
                        _, fresh = self._play(name, seed)
                    judged = self.notes.write(note, self._rewritten(fresh, removal))
                yield _cell(where, answer, [judged], known)
                continue
            yield _cell(where, answer, self._selected(answer), known)

    def _asked(self, name: str, seed: int) -> str:
        """All that decides what a method answers; another value is another note."""
        answers = ",".join(map(str, self.request.removals))
        sequences = self.workspace.calibration.texts.sha256
        limits = self.request
        asked = f"{name} {seed} {answers} {sequences} {self.workspace.locked}"
        return f"{asked} {limits.budget} {limits.time}"

    def repaired(self, cells: list[Cell]) -> Iterator[Cell]:
        """The answers of one method and seed again, each repaired and judged.

        Args:
            cells: How they were judged as they were.
        """
        answers, more = self._answers_to_repair(cells)
        for cell in cells:
            where = replace(cell.where, method=cell.where.method + REPAIRED)
            answer = answers.get(cell.where.removed)
            if answer is None:
                gap = cell.gap or "only one cut of whole layers is repaired"
                yield Cell(where, gap=gap, played=_with_cost(cell.played, more))
                continue
            judged = self._judged_repaired(answer)
            if "gap" in judged:
                yield Cell(where, gap=str(judged["gap"]), played=cell.played)
                continue
            took = judged["repair_seconds"]
            assert isinstance(took, int | float)
            remark = f"less {cell.where.removed} layers: repair {judged['repair']}, {took:.0f} s"
            played = _with_cost(cell.played, replace(more, seconds=more.seconds + took), remark)
            chosen: dict[str, Json] = {"players": "layer", "coalitions": [answer]}
            yield Cell(where, answer=chosen, judged=[judged], played=played)

    def _answers_to_repair(self, cells: list[Cell]) -> tuple[dict[int, str], RepairedRounds]:
        """The kept layers of each size as text, and what a search for them took beside."""
        name, seed = cells[0].where.method, cells[0].where.seed
        answered = [cell for cell in cells if cell.answer is not None]
        nothing = RepairedRounds(0, 0, 0.0)
        if not (answered and name in SEARCH_METHODS and SEARCH_METHODS[name].goes_on):
            one = {cell.where.removed: cell for cell in answered if _is_one_cut(cell)}
            return {removed: cell.coalitions()[0] for removed, cell in one.items()}, nothing
        removals = tuple(cell.where.removed for cell in answered)
        # The second texts decide as well, and what is refitted on follows from both.
        second = self.workspace.prepared.second
        decided = None if second is None else second.sha256
        note = f"repaired {self._asked(name, seed)} {removals} {decided} {self.key}"
        known = self.notes.read(note)
        if known is None:
            found = play_repaired(self.workspace, name, removals, seed, self.progress)
            n, took = self.workspace.stack.n_players, found.repaired or nothing
            kept: dict[str, Json] = {str(r): to_text(found.keep(n - r)) for r in removals}
            known = self.notes.write(note, {"kept": kept, "took": asdict(took)})
        assert isinstance(known, dict)
        kept, spent = known["kept"], known["took"]
        assert isinstance(kept, dict) and isinstance(spent, dict)
        rounds = RepairedRounds(
            int(spent["asked"]), int(spent["layer_tokens"]), float(spent["seconds"])
        )
        return {removed: str(kept[str(removed)]) for removed in removals}, rounds

    def _judged_repaired(self, text: str) -> dict[str, Json]:
        repair = self.evaluator.repair
        assert repair is not None
        texts = f"{repair.fit.sha256} {repair.select.sha256}"
        note = f"judged repaired {repair.name} {texts} {text} {self.key}"
        judged = self.notes.read(note)
        if judged is None:
            try:
                coalition = from_text([text])[0]
                found = self.evaluator.repaired(self.workspace, coalition, self.progress)
            except RepairError as error:
                found = {"gap": str(error)}
            judged = self.notes.write(note, found)
        assert isinstance(judged, dict)
        return judged

    def full(self) -> Cell:
        """The model as it came."""
        answer: dict[str, Json] = {
            "players": "layer",
            "coalitions": ["1" * self.workspace.stack.n_players],
        }
        played: dict[str, Json] = {"cost": None, "remarks": []}
        return _cell(Where("full", 0, 0), answer, self._selected(answer), played)

    def _selected(self, answer: Mapping[str, Json]) -> list[Json]:
        judgements = []
        texts, players = answer["coalitions"], answer["players"]
        assert isinstance(texts, list)
        for text in map(str, texts):
            # Without the method: two that keep the same layers are judged once.
            note = f"judged {players} {text} {self.key}"
            judged = self.notes.read(note)
            if judged is None:
                kind: Players = "layer" if players == "layer" else "sublayer"
                coalition = from_text([text])[0]
                found = self.evaluator.coalition(self.workspace, coalition, kind, self.progress)
                judged = self.notes.write(note, found)
            judgements.append(judged)
        return judgements

    def _rewritten(self, outcome: Outcome | None, removal: int) -> Json:
        answer = None if outcome is None else outcome.chosen.get(removal)
        assert isinstance(answer, Rewrite)
        try:
            return self.evaluator.rewrite(self.workspace, answer, self.progress)
        # It may not load; that is an answer, and other methods go on.
        except UserError as error:
            return {"gap": str(error)}

    def _play(self, name: str, seed: int) -> tuple[dict[str, Json], Outcome | None]:
        """Play a method: its answers and their cost as a note, or why there are none."""
        try:
            with memory_alone(self.workspace) as peak:
                outcome = play(self.workspace, name, self.request.removals, seed, self.progress)
        # It may not apply to this model: the reason becomes the gap of its rows.
        except UserError as error:
            return {"chosen": {}, "gap": str(error), "cost": None, "remarks": []}, None
        chosen: dict[str, Json] = {str(r): _as_plain(a) for r, a in outcome.chosen.items()}
        remarks = list(outcome.remarks)
        note: dict[str, Json] = {
            "chosen": chosen,
            "gap": "; ".join(remarks) or "it has no answer of this size",
            "cost": {**vars(outcome.cost), "peak_bytes": peak()},
            "sequences": self.workspace.calibration.texts.n_sequences,
            "remarks": list(remarks),
        }
        return note, outcome


def _is_one_cut(cell: Cell) -> bool:
    """Whether an answer is a single coalition of whole layers, with no weight changed."""
    assert cell.answer is not None
    single = cell.answer["players"] == "layer" and "rewrite" not in cell.answer
    return single and len(cell.coalitions()) == 1


def _with_cost(
    played: Mapping[str, Json], more: RepairedRounds, remark: str | None = None
) -> dict[str, Json]:
    """What was noted when a method played, with what its repair took beside."""
    cost = played["cost"]
    if isinstance(cost, dict):
        executed, seconds = cost["layer_tokens_executed"], cost["seconds"]
        assert isinstance(executed, int | float) and isinstance(seconds, int | float)
        cost = {
            **cost,
            "layer_tokens_executed": executed + more.layer_tokens,
            "seconds": seconds + more.seconds,
        }
    return {**played, "cost": cost, "remarks": [] if remark is None else [remark]}


def _as_plain(answer: Selection | Rewrite) -> dict[str, Json]:
    """An answer as plain data."""
    if isinstance(answer, Rewrite):
        return {"rewrite": answer.what, "players": "layer", "coalitions": [to_text(answer.kept)]}
    texts: list[Json] = [to_text(row) for row in answer.coalitions]
    return {"players": answer.players, "coalitions": texts}


def _of(chosen: Json, name: str) -> Json:
    return chosen.get(name) if isinstance(chosen, dict) else None


def _cell(
    where: Where, answer: Mapping[str, Json], judged: list[Json], known: Mapping[str, Json]
) -> Cell:
    first = judged[0]
    # A rewritten checkpoint may not load: the reason stands where its scores would.
    if isinstance(first, dict) and "gap" in first:
        return Cell(where, gap=str(first["gap"]), played=known)
    kept = [one for one in judged if isinstance(one, dict)]
    return Cell(where, answer=answer, judged=kept, played=known)
