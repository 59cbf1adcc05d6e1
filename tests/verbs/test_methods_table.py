"""A search method is one object: registered, it is accepted, played, planned and compared."""

import json
import subprocess
import sys

import numpy as np
import pytest
from tests.tiny import N_LAYERS, save_llama, save_text

from coterie.cli import main
from coterie.errors import CoterieError
from coterie.game.search.methods import SEARCH_METHODS, SearchMethod
from coterie.game.search.plain import answers_of
from coterie.game.search.task import Finalists

HELPED = """
import sys
from coterie.game.search.methods import SEARCH_METHODS, SearchMethod


class Shallowest(SearchMethod):
    name, title = "shallowest", "the first layers"
    summary = "cuts the first layers"
    least = play = lambda self, *asked: None


SEARCH_METHODS.register(Shallowest())
from coterie.cli import main
sys.exit(main([sys.argv[1], "--help"]) or "numpy" in sys.modules)
"""


class Shallowest(SearchMethod):
    """Cut the first layers, whatever they are worth."""

    name, title = "shallowest", "the first layers"
    summary = "cuts the first layers"

    def least(self, task):
        return len(task.keeps)

    def play(self, ledger, task):
        place = np.arange(task.n_players)
        cut = [place >= task.n_players - keep for keep in task.keeps]
        return Finalists(answers_of(self.name, ledger, np.array(cut)))


@pytest.fixture
def toy():
    SEARCH_METHODS.register(Shallowest())
    yield Shallowest.name
    del SEARCH_METHODS[Shallowest.name]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("methods")
    save_llama(home / "model")
    save_text(home / "text.txt")
    return home


def run(home, capsys, verb, *more):
    quick = ["--length", "16", "--sequences", "4", "--json"]
    texts = ["--calibration", str(home / "text.txt"), "--store", str(home / "store.sqlite")]
    capsys.readouterr()
    assert main([verb, str(home / "model"), *quick, *texts, *more]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_method_of_a_taken_name_is_refused(toy):
    with pytest.raises(CoterieError, match="named 'shallowest'"):
        SEARCH_METHODS.register(Shallowest())


def test_a_registered_method_prunes(home, capsys, toy):
    record = run(
        home, capsys, "prune", "--remove", "2", "--method", toy, "--output", str(home / "out")
    )
    assert record["search"]["method"] == toy
    assert record["cut"]["kept"] == list(range(2, N_LAYERS))
    assert (home / "out" / "config.json").exists()


def test_a_registered_method_is_planned(home, capsys, toy):
    plan = run(home, capsys, "prune", "--remove", "2", "--method", toy, "--output",
               str(home / "dry"), "--dry-run")["plan"]  # fmt: skip
    assert plan["at_most"] and plan["layer_tokens_asked"] == N_LAYERS * 4 * 16


def test_a_registered_method_is_compared(home, capsys, toy):
    more = ("--remove", "1,2", "--methods", f"{toy},one-shot", "--rounds", "0", "--seeds", "1")
    rows = run(home, capsys, "compare", *more)["rows"]
    mine = [row for row in rows if row["method"] == toy]
    assert [row["title"] for row in mine] == ["the first layers"] * 2
    assert all(row["gap"] is None and row["cost"]["layer_tokens_asked"] > 0 for row in mine)


@pytest.mark.parametrize("verb", ["prune", "values", "compare"])
def test_a_registered_method_is_in_the_help(verb):
    done = subprocess.run([sys.executable, "-c", HELPED, verb], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "shallowest" in done.stdout
    assert verb == "compare" or "cuts the first layers" in " ".join(done.stdout.split())
