"""How much smaller a cut makes a model, said before anything is searched."""

from collections.abc import Sequence

from coterie.players import unit
from coterie.report import words as w
from coterie.verbs.prune.limit import too_much
from coterie.verbs.shared.progress import Progress
from coterie.verbs.shared.workspace import Workspace


def tell_amount(workspace: Workspace, keeps: Sequence[int], progress: Progress) -> str:
    """Say what a cut to some sizes makes of the model, warn where that is too much, and return it.

    Args:
        workspace: The opened model.
        keeps: Players that stay, largest first; several where a target may be met by several.
        progress: Told.
    """
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
    sentence = (
        f"cut {howmany} of {n_players} {unit(kind, plural=True)}: {w.amount(values)} → "
        f"{alike}{w.amount(values * (1 - share))} parameters (−{share:.0%}), "
        f"{w.size(size)} → {w.size(size * (1 - share))}"
    ).replace("%", " %")
    progress.say(sentence)
    if (warning := too_much(gone[0], n_players, unit(kind, plural=True))) is not None:
        progress.say(warning)
    return sentence
