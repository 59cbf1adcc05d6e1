"""Play a method and judge its answers, each once: what is noted in the store is not done again."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from coterie.errors import UserError
from coterie.game.coalitions import from_text, to_text
from coterie.models.loaded.stack import Players
from coterie.plain import Json
from coterie.rivals.interface import Outcome, Rewrite, Selection
from coterie.scores.peak_memory import peak_memory
from coterie.store.notes import Notes
from coterie.verbs.compare.cells import Cell, Where
from coterie.verbs.compare.evaluator import Evaluator
from coterie.verbs.compare.methods import play
from coterie.verbs.compare.request import CompareRequest
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
        # All that decides what a method answers; another value is another note.
        answers = ",".join(map(str, self.request.removals))
        sequences = self.workspace.calibration.texts.sha256
        limits = self.request
        asked = f"{name} {seed} {answers} {sequences} {self.workspace.locked}"
        asked += f" {limits.budget} {limits.time}"
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
            with peak_memory(self.workspace.model.device) as peak:
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
