"""Fixtures every test may use."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may reach the network

import numpy as np
import pytest


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
