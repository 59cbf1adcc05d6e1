"""What is told of single layers: measured absences, and contributions that do not belie them."""

import numpy as np
import pytest
from tests.tiny import save_llama, save_text

from coterie import PruneRequest, ValuesRequest, prune, values
from coterie.game.search.baselines import GuidedSettings
from coterie.game.search.decide import decide
from coterie.game.search.guided import guided
from coterie.game.search.ledger import Ledger
from coterie.game.search.plain import Answer, one_shot
from coterie.verbs.search.nearby import absences_in, around
from coterie.verbs.search.result import SearchResult

BROKEN = (0, 7)
TEXTS = {"sequences": 4, "length": 16}


def layers_that_break(seed, n_players=14):
    """A ledger of a game in which two layers break the model, and pairs of others matter."""
    rng = np.random.default_rng(seed)
    single, pairs = rng.uniform(0.01, 0.3, n_players), rng.normal(0, 0.03, (n_players, n_players))
    single[list(BROKEN)] = 9.0

    def value(coalitions):
        cut = ~coalitions
        return -(cut @ single + ((cut @ np.triu(pairs, 1)) * cut).sum(axis=1))

    return Ledger.of(value, n_players)


def found_in(ledger, finalists):
    documents = np.zeros(ledger.n_sequences, dtype=np.intp)
    ledger.losses(np.ones((1, ledger.n_players), dtype=bool))
    decisions = decide(ledger, finalists, documents)
    return SearchResult(
        played=None,
        decisions=decisions,
        finalists=finalists,
        ledger=ledger,
        union=ledger,
        documents=documents,
        second=None,
        layer_tokens_asked=0,
        not_finite=0,
    )


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))]
)
@pytest.mark.parametrize("method", ["guided", "one-shot"])
def test_no_layer_that_breaks_the_model_ranks_below_one_that_was_cut(seed, method):
    ledger = layers_that_break(seed)
    if method == "guided":
        settings, rng = GuidedSettings(budget=150), np.random.default_rng(seed)
        answers = guided(ledger, [10], settings, rng=rng).finalists
    else:
        answers = one_shot(ledger, [10])
    found = found_in(ledger, answers)
    cut = ~found.best.winner.coalition
    near = around(found, found.documents, np.zeros(0, dtype=np.intp), seed=seed)
    measured = absences_in(found, found.documents)
    assert measured.losses[list(BROKEN)].min() > 8 > np.delete(measured.losses, BROKEN).max()
    values = near.estimate.values
    # Where nothing is told there is a reason; where something is, it does not belie what was seen.
    assert np.isnan(values).all() == (near.remark is not None)
    if method == "one-shot":
        assert "the surrogate" in near.remark
    else:
        assert values[list(BROKEN)].min() > values[cut].max()


def test_a_player_that_was_never_absent_has_no_contribution():
    ledger, rng = layers_that_break(1), np.random.default_rng(1)
    coalitions = rng.random((300, 14)) < 0.75
    coalitions[:, [0, 7, 9]] = True
    ledger.losses(np.unique(coalitions, axis=0))
    chosen = next(one for one in coalitions if one.sum() == 10)
    answers = [Answer("some", chosen, float(ledger.value(chosen[None])[0]))]
    near = around(found_in(ledger, answers), np.zeros(1, dtype=int), np.array([2]), seed=0)
    assert near.remark is None
    assert np.flatnonzero(np.isnan(near.estimate.values)).tolist() == [0, 2, 7, 9]


def most_important(record):
    """Players with the highest number of each table that is told."""
    tables = [[one.loss for one in record.absences.layers]] if record.absences else []
    if record.contributions is not None:
        tables.append([one.value for one in record.contributions.layers])
    told = [table for table in tables if any(one is not None for one in table)]
    return [max(range(16), key=lambda p: -9e9 if t[p] is None else t[p]) for t in told]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("told") / "store.sqlite"


@pytest.mark.parametrize("method", ["guided", "one-shot"])
def test_the_first_layer_is_the_most_important_of_a_cut(method, store, tmp_path):
    asked = PruneRequest("reference", remove=2, method=method, budget=120, repair="none", **TEXTS)
    record = prune(asked, output=tmp_path / "out", store=store).record
    assert record.absences.layers[0].loss > 1
    assert set(most_important(record)) == {0}
    assert "Loss when one layer alone is absent" in (tmp_path / "out/README.md").read_text()


@pytest.mark.parametrize(
    "asked",
    [
        {"budget": 100},
        pytest.param({"front": True}, marks=pytest.mark.slow),
        pytest.param({"estimator": "permutation", "budget": 200}, marks=pytest.mark.slow),
    ],
    ids=["paper", "front", "permutation"],
)
def test_the_first_layer_is_the_most_important_of_all_values(asked, store):
    record = values(ValuesRequest("reference", **asked, **TEXTS), store=store).record
    assert most_important(record) and set(most_important(record)) == {0}


def test_a_time_always_yields_the_best_known_and_the_same_command_goes_on(tmp_path):
    save_llama(tmp_path / "model")
    texts = {**TEXTS, "calibration": str(save_text(tmp_path / "text.txt"))}
    asked = PruneRequest(str(tmp_path / "model"), remove=3, time=0.001, repair="none", **texts)
    first = prune(asked, output=tmp_path / "first", store=tmp_path / "store.sqlite").record
    choice = first.choice
    assert choice.out_of_time and len(first.cut.removed) == 3
    assert "one-shot" in [one.method for one in choice.sizes[0].finalists]
    again = prune(asked, output=tmp_path / "again", store=tmp_path / "store.sqlite").record
    assert again.choice.sizes[0].loss <= choice.sizes[0].loss
