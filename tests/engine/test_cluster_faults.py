"""Whatever happens to the workers of a cluster, every answer comes once and is that of one machine.

No Ray here: the workers are simulated on a clock of their own, so hundreds of runs take a second.
"""

import numpy as np
import pytest

from coterie.engine.cluster.account import CrewAccount
from coterie.engine.cluster.crew import CrewQuestion
from coterie.engine.cluster.dispatch import Dispatch
from coterie.engine.cluster.division import Span, Unsent, Work, first_stretches
from coterie.engine.cluster.limits import Limits
from coterie.engine.cluster.simulated import Costs, SimulatedCrew
from coterie.errors import MachineError
from coterie.game.coalitions import Block, Observations, observe_all, to_text
from coterie.game.prefixes import prefix_order
from coterie.store.observations import Store
from coterie.store.stored_game import StoredGame

LIMITS = Limits(shortest=0.5, longest=20.0, floor=5.0, times=3.0, first_answer=400.0, alone=50.0)


class RandomGame:
    """A game on several texts, whose every number follows from the coalition and the text alone."""

    def __init__(self, n_players, n_sequences, seed, broken=0.0):
        self.n_players, self.n_sequences = n_players, n_sequences
        self.seed, self.broken = seed, broken
        self._weights = np.random.default_rng(seed).normal(size=(3, n_players, n_sequences))

    def observe(self, coalitions, sequences):
        table = np.cos(np.einsum("cp,kps->kcs", coalitions, self._weights[:, :, sequences]))
        rows = np.array(
            [hash((to_text(row), self.seed)) % 1000 < 1000 * self.broken for row in coalitions]
        )
        table[0][rows] = np.nan
        yield Block(np.arange(len(coalitions)), np.arange(len(sequences)), Observations(*table))


class OnCrew:
    """A game that a crew plays: what `ClusterGame` is, without a model."""

    def __init__(self, game, crew, account=None):
        self.n_players, self.n_sequences = game.n_players, game.n_sequences
        self.crew, self.account, self.remarks = crew, account or CrewAccount(), []

    def observe(self, coalitions, sequences):
        order = prefix_order(coalitions)
        asked = CrewQuestion(0, coalitions[order], sequences)
        dispatch = Dispatch(self.crew, asked, self.account, LIMITS, self.remarks)
        for block in dispatch.blocks():
            yield Block(order[block.rows], block.columns, block.observations)


def random_coalitions(rng, n=120, players=10):
    return np.unique(rng.random((n, players)) < rng.uniform(0.3, 0.9), axis=0)


def same(one, other):
    for name in ("nll", "kl", "top1"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("seed", range(50))
def test_a_worker_killed_at_any_moment_loses_nothing_and_stores_nothing_twice(seed, tmp_path):
    rng = np.random.default_rng(seed)
    game = RandomGame(10, 3, seed, broken=0.05 * (seed % 2))
    coalitions = random_coalitions(rng)
    crew = SimulatedCrew(
        {f"worker {n}": rng.uniform(1, 8) for n in range(1, 5)},
        game=game,
        costs=Costs(0.01, 0, 0.05),
    )
    whole = Work(coalitions).whole / 16
    for n, what in enumerate(rng.permutation(["dies", "hangs", "fails", "breaks"])[:2], 1):
        crew.plan(rng.uniform(0, whole), f"worker {n}", what)
    crew.plan(rng.uniform(0, whole), "worker 4", "dies")
    crew.plan(rng.uniform(0, whole), "worker 5", "joins")
    played = OnCrew(game, crew)
    times = np.zeros((len(coalitions), 3), dtype=int)
    with Store(tmp_path / "store.sqlite") as store:
        number = store.game({"seed": seed})
        for block in StoredGame(played, store, number).observe(coalitions, np.arange(3)):
            times[np.ix_(block.rows, block.columns)] += 1
        known, table, _ = store.known(number, [to_text(one) for one in coalitions], np.arange(3))
    assert (times == 1).all() and known.all()
    same(table, observe_all(game, coalitions))
    assert any("worker 4 is gone" in line for line in played.remarks) or crew.now() < whole


def test_a_driver_that_is_killed_goes_on_from_its_store(tmp_path, rng):
    game, coalitions = RandomGame(10, 3, 7), random_coalitions(rng)
    with Store(tmp_path / "store.sqlite") as store:
        crew = SimulatedCrew({"one": 4.0, "two": 2.0}, game=game)
        first = StoredGame(OnCrew(game, crew), store, store.game({}))
        for blocks, _ in enumerate(first.observe(coalitions, np.arange(3))):
            if blocks == 5:
                break
        # Another crew: that of the first driver went with it.
        again = StoredGame(OnCrew(game, SimulatedCrew({"three": 4.0}, game=game)), store, 1)
        same(observe_all(again, coalitions), observe_all(game, coalitions))
        assert 0 < again.hits < 3 * len(coalitions)


def test_answers_of_an_earlier_question_are_not_taken_for_those_of_this_one(rng):
    game, coalitions = RandomGame(10, 2, 3), random_coalitions(rng)
    played = OnCrew(game, SimulatedCrew({"one": 4.0, "two": 2.0}, game=game))
    next(iter(played.observe(coalitions, np.arange(2))))  # the rest is nobody's
    same(observe_all(played, coalitions[::2]), observe_all(game, coalitions[::2]))


def test_a_number_that_only_one_worker_cannot_find_is_asked_of_another(rng):
    game, coalitions = RandomGame(8, 2, 1), random_coalitions(rng, 40, 8)
    crew = SimulatedCrew({"good": 5.0, "broken": 5.0}, game=game)
    crew.plan(0.0, "broken", "breaks")
    played = OnCrew(game, crew)
    same(observe_all(played, coalitions), observe_all(game, coalitions))
    assert "broken found no finite number" in " ".join(played.remarks)


def test_a_number_that_nobody_finds_is_a_fact(rng):
    game, coalitions = RandomGame(8, 2, 1, broken=0.2), random_coalitions(rng, 40, 8)
    played = OnCrew(game, SimulatedCrew({"one": 5.0, "two": 5.0}, game=game))
    seen = observe_all(played, coalitions)
    same(seen, observe_all(game, coalitions))
    assert np.isnan(seen.nll).any() and not played.remarks


@pytest.mark.parametrize("what", ["dies", "hangs", "fails"])
def test_what_failed_is_told_and_asked_elsewhere(what, rng):
    game, coalitions = RandomGame(10, 2, 1), random_coalitions(rng)
    crew = SimulatedCrew({"one": 5.0, "two": 5.0}, game=game)
    crew.plan(10.0, "two", what)
    played = OnCrew(game, crew)
    same(observe_all(played, coalitions), observe_all(game, coalitions))
    told = {"dies": "two is gone (it died)", "hangs": "two is gone (no answer in", "fails": "two"}
    assert any(told[what] in line for line in played.remarks)
    assert all("asked again elsewhere" in line or "is gone" in line for line in played.remarks)


def test_when_no_worker_is_left_the_run_ends_with_one_line(rng):
    game = RandomGame(10, 2, 1)
    crew = SimulatedCrew({"one": 1.0}, game=game)
    crew.plan(3.0, "one", "dies")
    with pytest.raises(MachineError, match=r"no worker of the cluster is left \(one: it died\)"):
        observe_all(OnCrew(game, crew), random_coalitions(rng))


def test_who_joins_when_no_worker_is_left_is_taken(rng):
    game, coalitions = RandomGame(10, 2, 1), random_coalitions(rng)
    crew = SimulatedCrew({"one": 1.0}, game=game)
    crew.plan(3.0, "one", "dies")
    crew.plan(30.0, "two", "joins")
    same(observe_all(OnCrew(game, crew), coalitions), observe_all(game, coalitions))


def test_a_part_that_fails_everywhere_ends_the_run_with_the_reason(rng):
    game = RandomGame(10, 2, 1)
    crew = SimulatedCrew({"one": 1.0, "two": 1.0}, game=game)
    for name in ("one", "two"):
        for _ in range(20):
            crew.plan(0.0, name, "fails")
    with pytest.raises(MachineError, match="memory ran out"):
        observe_all(OnCrew(game, crew), random_coalitions(rng))


def test_every_row_is_in_one_bite_and_a_worker_half_as_fast_gets_half(rng):
    work = Work(_sorted(random_coalitions(rng, 600, 16)))
    everything = Span(0, len(work.again))
    found, cost = first_stretches(work, everything, {"fast": 2.0, "slow": 1.0})
    assert work.of(found["fast"]) == pytest.approx(2 * work.of(found["slow"]), rel=0.15)
    assert cost < 0.02 * work.whole
    speeds, seen = {"fast": 200.0, "slow": 100.0}, []
    unsent = Unsent(work, speeds, Limits())
    while unsent:
        for name in speeds:
            if (bite := unsent.take(name, speeds, idle=True, known=True)) is not None:
                seen += range(bite.start, bite.stop)
    assert sorted(seen) == list(range(everything.stop))
    assert unsent.again <= 0.07 * work.whole


def _sorted(coalitions):
    return coalitions[prefix_order(coalitions)]


@pytest.mark.parametrize("speeds", [[1, 1, 1, 1], [1, 1, 1, 0.25], [1, 2, 3, 4]])
def test_all_workers_end_together_and_little_is_done_twice(speeds, rng):
    coalitions = random_coalitions(rng, 512, 16)
    game = RandomGame(16, 1, 1)
    crew = SimulatedCrew({f"{n}": 50.0 * s for n, s in enumerate(speeds)}, costs=Costs(0.01, 0.001))
    played = OnCrew(game, crew)
    for _ in played.observe(coalitions, np.arange(1)):
        pass
    best = Work(_sorted(coalitions)).whole / (50 * sum(speeds))
    assert crew.now() < 1.25 * best
    assert played.account.twice() < 0.08
