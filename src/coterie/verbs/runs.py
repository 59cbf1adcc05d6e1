"""`runs`: what the store holds, and the folders that earlier runs left; and how to clear them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from coterie.errors import UserError
from coterie.plain import Json
from coterie.report.wording.standing import advice, standing
from coterie.report.words import short_hash
from coterie.store.observations import Store
from coterie.store.sqlite_file import default_path, noted_in
from coterie.verbs.outputs.paths import KIND
from coterie.verbs.outputs.records import read_record
from coterie.verbs.runs_request import RunsRequest
from coterie.verbs.shared.entry import public

EVERYTHING = "all"
"""What clears every observation."""


@dataclass(frozen=True)
class StoredModel:
    """What the store holds of one model.

    Attributes:
        model: Its name, or the start of the hash of its weights where no run names it.
        games: Games that were played on it: texts, devices and dtypes are kept apart.
        observations: Losses of one coalition on one text, over all games.
    """

    model: str
    games: int
    observations: int


@dataclass(frozen=True)
class KnownFolder:
    """A folder that a run wrote: where, what of, what became of it; no verdict where it is gone."""

    folder: str
    model: str
    verdict: str | None
    is_there: bool


@dataclass(frozen=True)
class Runs:
    """What there is.

    Attributes:
        store: The SQLite file.
        bytes: Its size on disk.
        models: What it holds, model by model, the most observed first.
        folders: Folders of finished runs, the newest last.
        cleared: Observations that were forgotten just now.
    """

    store: str
    bytes: int
    models: tuple[StoredModel, ...]
    folders: tuple[KnownFolder, ...]
    cleared: int = 0

    def as_json(self) -> dict[str, Json]:
        """All of it as plain JSON."""
        return asdict(self)


@public
def runs(request: RunsRequest, *, store: Path | str | None = None) -> Runs:
    """List what the store and known folders hold; clear what is asked.

    Args:
        request: What is cleared, if anything.
        store: SQLite file of observations; None is the user's cache.

    Raises:
        UserError: nothing there has the name that is to be cleared.
    """
    path = Path(default_path() if store is None else store)
    with Store(path, read_only=request.clear is None) as book, noted_in(path):
        games = book.games()
        names = _names(games)
        cleared = 0
        if request.clear is not None:
            cleared = book.forget_games(_named(request.clear, games, names))
            games = book.games()
        folders = tuple(_folder(told) for _, told, _ in games if told.get("kind") == KIND)
    n_bytes = path.stat().st_size if path.exists() else 0
    return Runs(str(path), n_bytes, _observed(games, names), folders, cleared)


Games = list[tuple[int, dict[str, Json], int]]
"""Games of a store: number, description, number of observations."""


def _names(games: Games) -> dict[str, str]:
    """Fingerprint of weights → the name of the model, as far as folders that are there tell."""
    found: dict[str, str] = {}
    for _, told, _ in games:
        record = read_record(Path(str(told["output"]))) if told.get("kind") == KIND else None
        if record is not None and record.model is not None:
            found[record.model.fingerprint] = record.model.name
    return found


def _model_of(told: Mapping[str, Json], names: Mapping[str, str]) -> str | None:
    weights = told.get("weights")
    if not isinstance(weights, str):
        return None
    return names.get(weights) or (weights if "@" in weights else short_hash(weights))


def _observed(games: Games, names: Mapping[str, str]) -> tuple[StoredModel, ...]:
    total: dict[str, tuple[int, int]] = {}
    for _, told, count in games:
        if (model := _model_of(told, names)) is not None:
            number, observations = total.get(model, (0, 0))
            total[model] = number + 1, observations + count
    found = [StoredModel(model, *numbers) for model, numbers in total.items()]
    return tuple(sorted(found, key=lambda one: -one.observations))


def _folder(told: Mapping[str, Json]) -> KnownFolder:
    folder = Path(str(told["output"]))
    record, paths = read_record(folder), told.get("paths")
    model = str(paths.get("model", "")) if isinstance(paths, dict) else ""
    if record is not None and record.model is not None:
        model = record.model.name
    now = None if record is None else standing(record)
    verdict = None if now is None else advice(now)
    return KnownFolder(str(folder), Path(model).name, verdict, record is not None)


def _named(what: str, games: Games, names: Mapping[str, str]) -> list[int]:
    """Numbers of the games to forget."""
    if what == EVERYTHING:
        return [number for number, _, _ in games]
    if what == "gone":
        folders = [one for one in games if one[1].get("kind") == KIND]
        return [number for number, told, _ in folders if not Path(str(told["output"])).is_dir()]
    found = [number for number, told, _ in games if _model_of(told, names) == what]
    if not found:
        there = ", ".join(one.model for one in _observed(games, names)) or "nothing"
        raise UserError(f"--clear {what}: the store holds {there}; name one of these, gone or all")
    return found
