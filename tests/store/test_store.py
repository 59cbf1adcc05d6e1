"""The store loses nothing, asks nothing twice, and never answers for another game."""

import json
import multiprocessing
import sqlite3

import numpy as np
import pytest

from coterie.errors import StudyMismatch, UserError
from coterie.game.coalitions import Block, Observations, observe_all, to_text
from coterie.store.observations import Store
from coterie.store.sqlite_file import choose_journal
from coterie.store.stored_game import StoredGame


class Counting:
    """A game on three sequences that counts what it is asked and can be stopped."""

    n_players, n_sequences = 5, 3

    def __init__(self, stop_after=None, bad=()):
        self.asked, self.stop_after, self.bad = [], stop_after, bad

    def observe(self, coalitions, sequences):
        for row, coalition in enumerate(coalitions):
            if self.stop_after is not None and len(self.asked) >= self.stop_after:
                raise KeyboardInterrupt
            self.asked += [(to_text(coalition), int(s)) for s in sequences]
            nll = (coalition @ np.arange(1.0, 6.0) + sequences)[None]
            if to_text(coalition) in self.bad:
                nll = np.array([[np.nan, np.inf, -np.inf]])[:, sequences]
            yield Block(
                np.array([row]), np.arange(len(sequences)), Observations(nll, nll / 2, nll / 3)
            )


@pytest.fixture
def coalitions(rng):
    return np.unique(rng.random((20, 5)) < 0.5, axis=0)


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "cache" / "store.sqlite") as store:
        yield store


def test_what_is_known_is_not_asked_again(store, coalitions):
    number = store.game({"model": "a"})
    first, again = Counting(), Counting()
    table = observe_all(StoredGame(first, store, number), coalitions)
    replay = StoredGame(again, store, number)
    np.testing.assert_array_equal(observe_all(replay, coalitions).nll, table.nll)
    assert again.asked == [] and replay.hits == len(coalitions) * 3
    assert len(first.asked) == len(set(first.asked)) == len(coalitions) * 3


def test_an_interrupted_run_goes_on_where_it_stopped(store, coalitions):
    number = store.game({"model": "a"})
    stopped, resumed = Counting(stop_after=12), Counting()
    with pytest.raises(KeyboardInterrupt):
        observe_all(StoredGame(stopped, store, number), coalitions)
    table = observe_all(StoredGame(resumed, store, number), coalitions)
    assert not set(stopped.asked) & set(resumed.asked)
    np.testing.assert_array_equal(table.nll, observe_all(Counting(), coalitions).nll)


def test_any_subset_of_sequences_may_be_known(store, coalitions):
    number = store.game({"model": "a"})
    observe_all(StoredGame(Counting(), store, number), coalitions[:7], np.array([2]))
    observe_all(StoredGame(Counting(), store, number), coalitions[3:9], np.array([0, 1]))
    rest = Counting()
    table = observe_all(StoredGame(rest, store, number), coalitions)
    np.testing.assert_array_equal(table.kl, observe_all(Counting(), coalitions).kl)
    assert len(rest.asked) == len(coalitions) * 3 - 7 - 12


def test_games_are_kept_apart(store, coalitions):
    observe_all(StoredGame(Counting(), store, store.game({"dtype": "bfloat16"})), coalitions)
    other = Counting()
    observe_all(StoredGame(other, store, store.game({"dtype": "float32"})), coalitions)
    assert len(other.asked) == len(coalitions) * 3


def test_numbers_that_are_not_finite_are_kept_as_they_are(store):
    number = store.game({"model": "a"})
    coalition = np.array([[True, False, True, True, False]])
    observe_all(StoredGame(Counting(bad=("10110",)), store, number), coalition)
    table = observe_all(StoredGame(Counting(), store, number), coalition)
    np.testing.assert_array_equal(table.nll, [[np.nan, np.inf, -np.inf]])


def test_a_study_resumed_under_other_settings_is_refused_with_the_difference(store):
    number = store.game({"model": "a"})
    store.claim_study(number, "mine", {"seed": 0, "draws": 100})
    store.claim_study(number, "mine", {"draws": 100, "seed": 0})
    with pytest.raises(StudyMismatch, match="seed was 0, is 1"):
        store.claim_study(number, "mine", {"seed": 1, "draws": 100})


def test_the_first_note_stands(store):
    number = store.game({"model": "a"})
    assert store.write_note(number, "shape", {"width": 8}) == {"width": 8}
    assert store.write_note(number, "shape", {"width": 4}) == {"width": 8}


def _write(path, start):
    with Store(path) as store:
        rows = np.arange(start, start + 16)
        coalitions = (rows[:, None] >> np.arange(5)) & 1 == 1
        for one in coalitions:
            observe_all(StoredGame(Counting(), store, store.game({"model": "a"})), one[None])


def test_two_processes_on_one_store_lose_nothing(tmp_path):
    path = tmp_path / "store.sqlite"
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_write, args=(path, start)) for start in (0, 8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    with Store(path) as store:
        ((_, description, count),) = store.games()
    assert description == {"model": "a"} and count == 24 * 3


def test_a_file_that_is_no_store_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("not a database, and a good deal longer than the header of one " * 4)
    before = path.read_bytes()
    with pytest.raises(UserError, match="name another file with --store"):
        Store(path)
    assert path.read_bytes() == before


def test_a_store_of_a_later_format_is_refused(tmp_path):
    path = tmp_path / "later.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version=99")
    with pytest.raises(UserError, match="format 99"):
        Store(path)


def test_descriptions_are_json(store):
    store.game({"model": "é", "length": 128})
    ((_, description, _),) = store.games()
    assert json.dumps(description, sort_keys=True) == '{"length": 128, "model": "\\u00e9"}'


class NoWal:
    """A database on a file system without shared memory: it takes no WAL and says so in its way."""

    def __init__(self, answer):
        self.answer, self.asked = answer, []

    def execute(self, statement):
        self.asked.append(statement)
        if "WAL" in statement:
            if isinstance(self.answer, Exception):
                raise self.answer
            return self
        self.answer = "delete"
        return self

    def fetchone(self):
        return (self.answer,)


@pytest.mark.parametrize("answer", ["delete", sqlite3.OperationalError("disk I/O error")])
def test_without_wal_a_rollback_journal_is_kept(answer):
    assert choose_journal(NoWal(answer)) == "delete"


def test_a_store_works_with_a_rollback_journal(tmp_path, coalitions, monkeypatch):
    monkeypatch.setattr(
        "coterie.store.observations.choose_journal",
        lambda db: db.execute("PRAGMA journal_mode=DELETE").fetchone()[0],
    )
    with Store(tmp_path / "nfs.sqlite") as store:
        assert store.journal == "delete"
        number = store.game({"model": "a"})
        table = observe_all(StoredGame(Counting(), store, number), coalitions)
    assert not list(tmp_path.glob("*-wal"))
    with Store(tmp_path / "nfs.sqlite") as again:
        replay = StoredGame(Counting(stop_after=0), again, number)
        np.testing.assert_array_equal(observe_all(replay, coalitions).nll, table.nll)


def test_a_store_read_only_writes_nothing(tmp_path, store, coalitions):
    with Store(tmp_path / "absent.sqlite", read_only=True) as empty:
        number = empty.game({"model": "a"})
        observe_all(StoredGame(Counting(), empty, number), coalitions)
        assert empty.write_note(number, "shape", {"width": 8}) == {"width": 8}
        assert empty.whole(number, 3) == set() and empty.note(number, "shape") is None
    assert not (tmp_path / "absent.sqlite").exists()
    number = store.game({"model": "a"})
    observe_all(StoredGame(Counting(), store, number), coalitions[:4])
    with Store(store.path, read_only=True) as same:
        assert same.game({"model": "b"}) < 0
        assert same.whole(same.game({"model": "a"}), 3) == set(map(to_text, coalitions[:4]))
        observe_all(StoredGame(Counting(), same, same.game({"model": "a"})), coalitions)
    assert store.games()[0][2] == 4 * 3


def test_a_new_store_without_an_observation_can_be_forgotten(tmp_path, coalitions):
    store = Store(tmp_path / "new.sqlite")
    store.game({"model": "a"})
    store.forget()
    assert list(tmp_path.iterdir()) == []
    store = Store(tmp_path / "new.sqlite")
    observe_all(StoredGame(Counting(), store, store.game({"model": "a"})), coalitions)
    store.forget()
    assert (tmp_path / "new.sqlite").exists()


def test_a_full_disk_is_told_as_one(store, coalitions):
    class Full:
        in_transaction = False

        def execute(self, *_):
            raise sqlite3.OperationalError("database or disk is full")

    number = store.game({"model": "a"})
    block = next(iter(Counting().observe(coalitions[:1], np.arange(3))))
    kept, store._db = store._db, Full()
    with pytest.raises(OSError, match="No space left"):
        store.add(number, [to_text(coalitions[0])], np.arange(3), block)
    store._db = kept
