"""How much smaller a cut makes a model, said before anything is searched."""

from collections.abc import Sequence

from coterie.players import unit
from coterie.report import words as w
from coterie.verbs.prune.limit import too_much
from coterie.verbs.shared.progress import Progress
from coterie.verbs.shared.workspace import Workspace


def tell_amount(workspace: Workspace, keeps: Sequence[int], progress: Progress) -> None:
    """Say what a cut to some sizes makes of the model, and warn where that is too much.

    Args:
        workspace: The opened model.
        keeps: Players that stay, largest first; several where a target may be met by several.
        progress: Told.
    """
    progress.say(amount_of(workspace, keeps))
    warn_of_amount(workspace, keeps, progress)


def warn_of_amount(workspace: Workspace, keeps: Sequence[int], progress: Progress) -> None:
    """Warn where more goes than a model can be expected to stand.

    Args:
        workspace: The opened model.
        keeps: Players that stay, largest first.
        progress: Told.
    """
    n_players, players = (
        workspace.stack.n_players,
        unit(workspace.request.player_kind(), plural=True),
    )
    if (warning := too_much(n_players - keeps[0], n_players, players)) is not None:
        progress.say(warning)


def amount_of(workspace: Workspace, keeps: Sequence[int]) -> str:
    """What a cut to some sizes makes of the model, in one sentence."""
    kind, n_players = workspace.request.player_kind(), workspace.stack.n_players
    layers = [sum(p.numel() for p in layer.parameters()) for layer in workspace.stack.layers]
    free = [layers[player] for player in range(n_players) if player not in workspace.locked]
    entries = workspace.prepared.source.entries
    values, size = sum(one.n_values for one in entries), sum(one.n_bytes for one in entries)
    gone = [n_players - keep for keep in keeps]
    # The smallest model that the run may end with; layers of unequal size count by their mean.
    share = gone[-1] * sum(free) / len(free) / values
    alike = "" if len(set(free)) == 1 else "about "
    howmany = f"{gone[0]} to {gone[-1]}" if len(gone) > 1 else f"{gone[0]}"
    return (
        f"cut {howmany} of {n_players} {unit(kind, plural=True)}: {w.amount(values)} → "
        f"{alike}{w.amount(values * (1 - share))} parameters (−{share:.0%}), "
        f"{w.size(size)} → {w.size(size * (1 - share))}"
    ).replace("%", " %")
