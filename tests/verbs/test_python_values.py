"""Python gives numpy numbers and path objects: every request takes them, and refuses the rest."""

import json
from inspect import signature
from pathlib import Path
from types import NoneType
from typing import get_args

import numpy as np
import pytest
import torch
from tests.tiny import save_llama, save_text, words

import coterie
from coterie.errors import CoterieError, UserError
from coterie.verbs.after_cut.repair import repair
from coterie.verbs.options.declare import declared
from coterie.verbs.report import report

REQUESTS = [getattr(coterie, name) for name in coterie.__all__ if name.endswith("Request")]
NEEDED = {"model": "m", "models": ("m",), "folder": "m", "to": "gguf", "repository": "me/m",
          "sparsity": 0.5, "remove": 1, "scheme": "int8", "removals": (1,),
          "runs": ("m",)}  # fmt: skip

# What Python people hand over for each plain type, and what it has to become.
TAKEN = {
    int: [(np.int64(3), 3), (np.int32(3), 3), (np.uint8(3), 3), (torch.tensor(3).numpy()[()], 3)],
    float: [(np.float64(0.5), 0.5), (np.float32(0.5), 0.5), (np.int64(2), 2), (2, 2)],
    bool: [(np.bool_(True), True), (True, True)],
    Path: [("a/b", Path("a/b")), (Path("a/b"), Path("a/b"))],
    str: [(np.str_("auto"), "auto")],
}
REFUSED = {
    int: [2.0, np.float64(2.0), "3", True, np.bool_(True), None, [3], b"3", object()],
    float: ["0.5", True, 1j, [0.5], None, object()],
    bool: [1, 0, "yes", None],
    Path: [3, b"a", None, ["a"]],
    str: [3, b"a", None, ["a"], object()],
}
EVERY = [(kind, one) for kind in REQUESTS for one in declared(kind)]
NAMES = [f"{kind.__name__}.{one.name}" for kind, one in EVERY]


def plain_type(one):
    """The plain type of an option, whether it may be None, and whether it holds several."""
    kinds = [kind for kind in get_args(one.type) if kind is not NoneType]
    optional = NoneType in get_args(one.type)
    kind = kinds[0] if optional else one.type
    several = getattr(kind, "__origin__", None) is tuple
    return (get_args(kind)[0] if several else kind), optional, several


def made(kind, **given):
    needed = {one.name for one in declared(kind)} & NEEDED.keys()
    return kind(**{name: NEEDED[name] for name in needed if name not in given}, **given)


@pytest.mark.parametrize(("kind", "one"), EVERY, ids=NAMES)
def test_every_option_takes_what_python_gives_and_nothing_else(kind, one):
    plain, optional, several = plain_type(one)
    for value, expected in TAKEN.get(plain, ()):
        for given in ((value,), [value], np.array([value])) if several else (value,):
            if several and isinstance(given, np.ndarray) and plain is Path:
                continue
            found = getattr(made(kind, **{one.name: given}), one.name)
            assert found == ((expected,) if several else expected)
            leaves = found if several else (found,)
            assert all(type(leaf) in (int, float, bool, str, type(expected)) for leaf in leaves)
            if one.option.recorded:
                json.dumps(made(kind, **{one.name: given}).as_json())
    if plain is str and one.option.path:
        given = (Path("a") / "b",) if several else Path("a") / "b"
        found = getattr(made(kind, **{one.name: given}), one.name)
        assert found == (("a/b",) if several else "a/b")
    for value in REFUSED.get(plain, ()):
        if value is None and optional:
            continue
        with pytest.raises(UserError, match="must be") as refused:
            made(kind, **{one.name: (value,) if several else value})
        assert "\n" not in str(refused.value)
    if several:  # a text is no list of letters
        with pytest.raises(UserError, match="must be a tuple"):
            made(kind, **{one.name: "abc"})


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    save_llama(home / "model")
    save_text(home / "text.txt", words())
    return home


def test_a_run_of_numpy_numbers_and_paths_is_the_run_of_plain_ones(home, tmp_path, monkeypatch):
    monkeypatch.setenv("COTERIE_STORE", str(tmp_path / "s.sqlite"))
    plain = {"remove": 1, "method": "one-shot", "sequences": 4, "length": 16, "seed": 2}
    odd = {name: np.int64(n) if isinstance(n, int) else n for name, n in plain.items()}
    text = home / "text.txt"
    first = coterie.prune(
        coterie.PruneRequest(str(home / "model"), calibration=str(text), **plain),
        output=str(tmp_path / "a"),
    )
    second = coterie.prune(
        coterie.PruneRequest(home / "model", calibration=text, **odd), output=tmp_path / "b"
    )
    assert first.record.identity == second.record.identity
    assert first.removed == second.removed


VERBS = {name: getattr(coterie, name) for name in coterie.__all__ if name.islower()}
VERBS |= {"repair": repair, "report": report}


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_refuses_what_it_cannot_carry_at_the_call(name):
    for wrong in ("reference", {"model": "reference"}, None, Path("m")):
        takes_output = "output" in signature(VERBS[name]).parameters
        with pytest.raises(UserError, match=rf"{name} takes a \w+Request, not a"):
            VERBS[name](wrong, **({"output": "out"} if takes_output else {}))
    with pytest.raises(TypeError):
        VERBS[name]()


@pytest.mark.parametrize(
    "more",
    [{"output": 3}, {"store": 3}, {"overwrite": "yes"}, {"progress": print}, {"store": b"x"}],
)
def test_what_stands_beside_a_request_is_checked_too(more):
    given = {"output": "out", **more}
    with pytest.raises(CoterieError):
        coterie.prune(coterie.PruneRequest("reference", remove=1), **given)
