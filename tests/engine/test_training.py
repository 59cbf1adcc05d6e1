"""Networks trained with torch are those trained with numpy."""

import numpy as np
import pytest
import torch

from coterie.engine.training import trained_with_torch, trainer_on
from coterie.game.surrogates.paper import PaperNetwork
from coterie.game.surrogates.training import trained


def fits(trainer):
    rng = np.random.default_rng(3)
    known = rng.random((150, 8)) < 0.7
    targets = rng.random((5, len(known)))
    rows = [rng.integers(len(known), size=130) for _ in range(5)]
    network = PaperNetwork(epochs=40, batch=32, rate=0.05, trainer=trainer)
    fitted = network.refit(known, targets, rows, rngs=np.random.default_rng(4).spawn(5))
    return np.array([one.predict(known) for one in fitted])


def test_torch_trains_what_numpy_trains():
    ours = fits(lambda lessons: trained_with_torch(lessons, torch.device("cpu")))
    np.testing.assert_allclose(ours, fits(trained), atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_recorded_epoch_trains_what_numpy_trains():
    ours = fits(trainer_on(torch.device("cuda")))
    np.testing.assert_allclose(ours, fits(trained), atol=1e-4)


def test_a_cpu_trains_with_numpy():
    assert trainer_on(torch.device("cpu")) is trained
