"""Texts of one kind, and texts of two."""

import numpy as np
import pytest

from coterie.texts.likeness import UNLIKE, token_distance, unlikeness
from coterie.texts.sets import TextSet


def drawn(seed: int, shift: int = 0, n: int = 64, length: int = 64) -> TextSet:
    """Sequences of a Zipf-like vocabulary, its words renamed by a shift."""
    rng = np.random.default_rng(seed)
    chances = 1 / np.arange(1, 2001)
    tokens = rng.choice(2000, (n, length), p=chances / chances.sum())
    tokens = (tokens + shift) % 4000
    documents = np.repeat(np.arange(n // 4), 4)
    names = tuple(f"document {one}" for one in range(n // 4))
    return TextSet(tokens, documents, names, "drawn", bos=False)


def test_text_of_one_kind_is_like_itself_and_unlike_another():
    assert abs(token_distance(drawn(0), drawn(1))) < 0.1
    assert unlikeness(drawn(0), drawn(1)) is None
    assert token_distance(drawn(0, shift=2000), drawn(1)) > UNLIKE
    assert "is unlike the calibration text" in unlikeness(drawn(0, shift=2000), drawn(1))


@pytest.mark.parametrize("held_out", [drawn(1, n=4), drawn(1, n=8, length=16)])
def test_too_little_text_tells_nothing(held_out):
    assert token_distance(drawn(0), held_out) is None
