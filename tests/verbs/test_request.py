"""What is asked is checked before anything is loaded, and paths never reach a report."""

from pathlib import Path

import pytest

from coterie.errors import CutError, UserError
from coterie.verbs.prune.request import PruneRequest
from coterie.verbs.shared.licence import licence_of
from coterie.verbs.shared.provenance import bare
from coterie.verbs.values.request import ValuesRequest


@pytest.mark.parametrize(
    ("ratio", "n_players", "removed"),
    [(0.25, 16, 4), (0.25, 6, 2), (0.25, 10, 3), (0.01, 16, 1), (0.5, 5, 3), (0.24, 6, 1)],
)
def test_the_ratio_is_what_goes_rounded_half_up_at_least_one(ratio, n_players, removed):
    assert PruneRequest("m", ratio=ratio).players_to_remove(n_players, ()) == removed


def test_keep_and_remove_are_two_ways_to_say_one_thing():
    assert PruneRequest("m", keep=12).players_to_remove(16, ()) == 4
    assert PruneRequest("m", remove=4).players_to_remove(16, (0, 15)) == 4


@pytest.mark.parametrize(
    ("request_", "locked", "complaint"),
    [
        (PruneRequest("m", remove=16), (), "at most 15 can go"),
        (PruneRequest("m", remove=14), (0, 15), "2 of them locked, so at most 13 can go"),
        (PruneRequest("m", keep=16), (), "removes nothing"),
    ],
)
def test_too_much_or_nothing_is_refused(request_, locked, complaint):
    with pytest.raises(CutError, match=complaint):
        request_.players_to_remove(16, locked)


def test_two_amounts_are_refused():
    with pytest.raises(UserError, match="--remove and --ratio say the same thing twice"):
        PruneRequest("m", remove=1, ratio=0.5).check()


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("reference", "reference"),
        ("meta-llama/Llama-3.2-1B", "meta-llama/Llama-3.2-1B"),
        ("/home/someone/models/tiny", "tiny"),
        ("~/models/tiny", "tiny"),
        ("./models/tiny", "tiny"),
        ("/a/b.txt=0.7,/c/d.txt=0.3", "b.txt=0.7,d.txt=0.3"),
        ("allenai/c4:en", "allenai/c4:en"),
        (None, None),
    ],
)
def test_paths_are_reduced_to_their_last_part(word, expected):
    assert bare(word) == expected


def test_a_relative_path_that_is_there_is_reduced_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret" / "model").mkdir(parents=True)
    assert bare("secret/model") == "model"


def test_the_command_repeats_the_request_and_names_no_folder():
    asked = PruneRequest(
        "/home/someone/model", remove=2, lock=(0, 7), time=90.0, trust_remote_code=True
    )
    assert asked.command(Path("somewhere/out")) == (
        "coterie prune model --remove 2 --time 90s --lock 0,7 --trust-remote-code --output out"
    )
    assert ValuesRequest("reference").command() == "coterie values reference"


@pytest.mark.parametrize("time", [float("nan"), float("inf"), 0.0, -1.0])
def test_a_time_that_is_none_is_refused(time):
    with pytest.raises(UserError, match="--time"):
        ValuesRequest("m", time=time).check()


def test_the_licence_of_the_source_is_carried(tmp_path):
    card = tmp_path / "README.md"
    card.write_text(
        "---\nlicense: llama3.2\ntags:\n- x\nlicense_link: LICENSE.txt\n---\nlicense: no"
    )
    assert licence_of(card) == {"license": "llama3.2", "license_link": "LICENSE.txt"}
    card.write_text("no metadata\nlicense: mit\n")
    assert licence_of(card) == {} == licence_of(tmp_path / "absent.md")


def test_markup_is_no_licence(tmp_path):
    card = tmp_path / "README.md"
    lines = ["license: <script>x</script>", "language: [en, de]", "license_name: a b-2.0 (c)",
             "license_link: javascript:x"]  # fmt: skip
    card.write_text("\n".join(["---", *lines, "---"]))
    assert licence_of(card) == {"language": "[en, de]", "license_name": "a b-2.0 (c)"}
