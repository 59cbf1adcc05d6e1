"""Seconds and bytes of a run, measured on the opened model before it begins."""

from time import perf_counter

import numpy as np
import torch

from coterie.engine.cost import Plan
from coterie.engine.replicas import Replicas
from coterie.engine.streamed_game import StreamedGame
from coterie.game.coalitions import Coalitions, observe_all
from coterie.verbs.shared.workspace import Workspace


def _at_once(workspace: Workspace) -> int:
    """Devices that share the work out; two copies on one device gain nothing."""
    return len(set(workspace.prepared.devices))


def times_of(workspace: Workspace) -> tuple[float, float]:
    """Seconds of one layer, and of all that is not a layer, over the calibration texts."""
    engine = workspace.calibration.engine
    if isinstance(engine, StreamedGame):
        return _streamed_seconds(engine) / engine.n_players, 0.0
    if isinstance(engine, Replicas):
        engine = engine.games[0]
    ends = np.stack([np.ones(engine.n_players, dtype=bool), np.zeros(engine.n_players, dtype=bool)])
    observe_all(engine, ends[1:])  # whatever is asked first, the full model is read along with it
    times = []
    for coalition in ends:
        began = perf_counter()
        observe_all(engine, coalition[None])
        times.append(perf_counter() - began)
    layer = max(0.0, times[0] - times[1]) / engine.n_players
    return layer, times[1]


def _streamed_seconds(engine: StreamedGame) -> float:
    """Seconds of one pass of the full model; waiting for the disk is shared by all that go along.

    So a pass of many coalitions takes less than this says, and a pass of one takes about this.
    """
    began = perf_counter()
    observe_all(engine, np.ones((1, engine.n_players), dtype=bool))
    return perf_counter() - began


def memory_of(workspace: Workspace, work: Plan, asked: Coalitions) -> int:
    """Bytes of weights and states on a device; streamed, ``asked`` all go along in one pass."""
    if workspace.streamed:
        return workspace.streamed[0].memory_bytes(asked)
    model = workspace.model
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    width = int(model.config.get_text_config(decoder=True).hidden_size)
    itemsize = torch.empty((), dtype=workspace.prepared.dtype).element_size()
    copies = workspace.prepared.devices.count(workspace.prepared.device)
    return copies * (weights + work.state_bytes(width, itemsize))
