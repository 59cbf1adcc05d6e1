"""`coterie compare` from the command line, with every kind of answer on a tiny model."""

import json

import pytest
from tests.tiny import save_llama, save_text

from coterie.cli import main

KINDS = "shortgpt,blockpruner,laco,replace,slicegpt"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("compare")
    save_llama(home / "model")
    save_text(home / "text.txt")
    return home


def arguments(home, *more):
    texts = ["--calibration", str(home / "text.txt"), "--store", str(home / "store.sqlite")]
    quick = ["--length", "16", "--sequences", "4", "--rounds", "1"]
    return ["compare", str(home / "model"), *texts, *quick, *more]


def test_selections_of_layers_and_blocks_and_rewrites_stand_in_one_table(home, capsys):
    assert main(arguments(home, "--remove", "1", "--methods", KINDS, "--json")) == 0
    found = json.loads(capsys.readouterr().out)
    rows = {row["method"]: row for row in found["rows"]}
    assert list(rows) == KINDS.split(",")
    for row in rows.values():
        if row["gap"] is None:
            assert 0 < row["size"]["parameters"] < found["full"]["size"]["parameters"]
            assert row["held_out"][0]["nll"]["mean"] > 0
    assert rows["shortgpt"]["gap"] is None and rows["blockpruner"]["gap"] is None
    assert rows["shortgpt"]["size"]["tokens_per_second"] > 0
    assert rows["blockpruner"]["size"]["tokens_per_second"] is None
    assert str(home) not in json.dumps(found)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (["--remove", "a"], "no list of numbers"),
        (["--remove", "1", "--methods", "luck"], "luck is unknown"),
        (["--remove", "1", "--lengths", "2048"], "context"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(home, capsys, wrong, told):
    assert main(arguments(home, *wrong)) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("coterie: ") and told in error
