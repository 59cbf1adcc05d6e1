"""Seconds and bytes of a run, measured on the opened model before it begins."""

from coterie.engine.cost import Plan
from coterie.engine.interface import Seconds
from coterie.game.coalitions import Coalitions
from coterie.verbs.shared.workspace import Workspace


def _at_once(workspace: Workspace) -> int:
    return workspace.engine.at_once


def times_of(workspace: Workspace) -> Seconds:
    """Seconds of one layer, and of all that is not a layer, over the calibration texts."""
    return workspace.engine.seconds()


def memory_of(workspace: Workspace, work: Plan, asked: Coalitions) -> int:
    """Bytes of weights and states on a device."""
    return workspace.engine.memory_bytes(asked)
