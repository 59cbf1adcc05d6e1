"""Seconds that each player takes in a pass of the whole model, measured once and kept."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

import numpy as np
import torch

from coterie.game.coalitions import Vector
from coterie.report.schema.explorer import PlayerTimesPart
from coterie.verbs.shared.workspace import Workspace

log = logging.getLogger(__name__)

SEQUENCES = 4
"""Calibration texts of a pass that a target in seconds is decided by."""

# A median: a pass that something else on the machine slowed down does not count.
_PASSES = 5
"""Forward passes timed after one that is not; the median of each player counts."""


def player_times(workspace: Workspace) -> PlayerTimesPart | None:
    """The times for whoever tries other cuts: of one text; None where layers are read from disk."""
    if workspace.batches is not None:
        return None
    # A target in seconds has measured already, on more.
    n_texts = SEQUENCES if workspace.request.target == "target_speedup" else 1
    try:
        seconds, rest = player_seconds(workspace, n_texts)
    # Whatever it is: only the page shows them, and no run fails for its page.
    except Exception as error:
        told = " ".join(str(error).split())
        log.warning("the page has no milliseconds: %s: %.200s", type(error).__name__, told)
        return None
    tokens = workspace.calibration.texts.tokens[:n_texts]
    return PlayerTimesPart([float(f"{one:.4g}") for one in seconds], rest, tokens.size)


def player_seconds(workspace: Workspace, n_texts: int) -> tuple[Vector, float]:
    """Seconds of each player and of the rest in a pass over calibration text, measured once.

    They are kept in the store, so that a run that goes on decides by the same figures.

    Args:
        workspace: With its model in memory.
        n_texts: Calibration texts of a pass.
    """
    game = workspace.calibration.game
    name = "seconds of players" + ("" if n_texts == SEQUENCES else f", {n_texts} texts")
    known = game.store.note(game.number, name)
    if not isinstance(known, list):
        measured = [float(seconds) for seconds in _measure(workspace, n_texts)]
        known = game.store.write_note(game.number, name, [*measured])
        known = known if isinstance(known, list) else [*measured]
    times = np.array(known, dtype=float)
    return times[:-1], float(times[-1])


def _measure(workspace: Workspace, n_texts: int) -> Vector:
    tokens = workspace.calibration.texts.tokens[:n_texts]
    inputs = torch.from_numpy(tokens).to(workspace.model.device)
    passes = []
    with torch.inference_mode(), _timed(workspace) as times:
        for _ in range(_PASSES + 1):
            times[:] = 0
            began = _now(workspace)
            workspace.model(inputs, use_cache=False)
            whole = _now(workspace) - began
            passes.append([*times, whole - times.sum()])
    return np.median(np.array(passes[1:]), axis=0)


@contextmanager
def _timed(workspace: Workspace) -> Iterator[Vector]:
    """Seconds spent in each player, added up while this lasts."""
    times = np.zeros(workspace.stack.n_players)
    hooks = []

    def before(player: int) -> None:
        times[player] -= _now(workspace)

    def after(player: int) -> None:
        times[player] += _now(workspace)

    for player, layer in enumerate(workspace.stack.layers):
        hooks.append(layer.register_forward_pre_hook(lambda *_, p=player: before(p)))
        hooks.append(layer.register_forward_hook(lambda *_, p=player: after(p)))
    try:
        yield times
    finally:
        for hook in hooks:
            hook.remove()


def _now(workspace: Workspace) -> float:
    if workspace.model.device.type == "cuda":
        torch.cuda.synchronize(workspace.model.device)
    return perf_counter()
