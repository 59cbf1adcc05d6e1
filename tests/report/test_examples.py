"""The examples in docstrings of players, plain data and reports give what they say."""

import doctest
from importlib import import_module

import pytest

MODULES = ("coterie.plain", "coterie.players", "coterie.report.words", "coterie.report.schema.part")


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_hold(module):
    failed, tried = doctest.testmod(import_module(module))
    assert tried and not failed
