"""Our own searches in a comparison: of whole layers, then repaired, or then among blocks."""

from dataclasses import replace

import numpy as np

from coterie.engine.cost import plan
from coterie.game.prefixes import layers_executed
from coterie.models.cutting.blocks import saved_in_blocks
from coterie.rivals.interface import Chosen, Cost, Outcome, Selection
from coterie.verbs.search.blocks import choose_blocks, of_whole_layers
from coterie.verbs.search.choose import choose
from coterie.verbs.search.repaired import choose_repaired
from coterie.verbs.search.result import Search, SearchResult
from coterie.verbs.shared.progress import Progress
from coterie.verbs.shared.workspace import Workspace


def play_repaired(
    workspace: Workspace, name: str, removals: tuple[int, ...], seed: int, progress: Progress
) -> SearchResult:
    """What a search of ours finds that goes on among repaired coalitions.

    Args:
        workspace: The opened model and its games.
        name: Name of the method.
        removals: Numbers of layers to remove.
        seed: Decides what it draws by chance.
        progress: Shows what is being done.
    """
    search = _search(workspace, name, removals, seed)
    # What was observed when it played is known: this finds it again.
    found = choose(workspace, search, progress)
    return choose_repaired(workspace, search, found, progress)


def in_layers(
    workspace: Workspace, name: str, removals: tuple[int, ...], seed: int, progress: Progress
) -> Outcome:
    """What one of our own searches finds among whole layers.

    Args:
        workspace: The opened model and its games.
        name: Name of the search of layers.
        removals: Numbers of layers to remove.
        seed: Decides what it draws by chance.
        progress: Shows what is being done.
    """
    n = workspace.stack.n_players
    found = choose(workspace, _search(workspace, name, removals, seed), progress)
    chosen: Chosen = {r: Selection(found.keep(n - r)[None]) for r in removals}
    return Outcome(chosen, _cost(workspace, found), _remarks(found))


def then_in_blocks(
    workspace: Workspace, name: str, removals: tuple[int, ...], seed: int, progress: Progress
) -> Outcome:
    """What it finds that goes on among blocks, below the parameters of each of its answers.

    Args:
        workspace: The opened model and its games.
        name: Name of the search of layers.
        removals: Numbers of layers to remove.
        seed: Decides what it draws by chance.
        progress: Shows what is being done.

    Raises:
        ModelError: the layers are not built of such blocks.
    """
    search = _search(workspace, name, removals, seed)
    found = choose(workspace, search, progress)
    choice = choose_blocks(workspace, search, found, None, progress)
    chosen: Chosen = {}
    # Both have the fewest removed first.
    for removal, decision in zip(sorted(removals), choice.found.decisions, strict=True):
        kept = decision.winner.coalition
        whole = of_whole_layers(kept)
        chosen[removal] = Selection(kept[None, ::2]) if whole else Selection(kept[None], "sublayer")
    layers, rounds = _cost(workspace, found), choice.rounds
    # What the search of layers has heard was read once; two blocks are a layer.
    read = _read(choice.found, workspace) - int(np.isfinite(found.ledger.seen()[1]).sum())
    cost = Cost(
        layer_tokens_asked=layers.layer_tokens_asked + rounds.layer_tokens_asked,
        layer_tokens_executed=layers.layer_tokens_executed
        + _executed(choice.found, workspace) // 2,
        head_tokens=layers.head_tokens + read * (workspace.calibration.texts.length - 1),
        backward_layer_tokens=0,
        seconds=layers.seconds + rounds.seconds + rounds.seconds_saved,
    )
    remarks = _remarks(choice.found)
    if not saved_in_blocks(workspace.prepared.source):
        remarks += ("a cut of single blocks of this model cannot be saved: `prune` cuts layers",)
    return Outcome(chosen, cost, remarks)


def _cost(workspace: Workspace, found: SearchResult) -> Cost:
    """What a search of whole layers has cost, as if it were alone."""
    return Cost(
        layer_tokens_asked=found.layer_tokens_asked,
        layer_tokens_executed=_executed(found, workspace),
        head_tokens=_read(found, workspace) * (workspace.calibration.texts.length - 1),
        backward_layer_tokens=0,
        # What the store knew took its time in an earlier run.
        seconds=found.seconds_choosing + found.seconds_saved,
    )


def _remarks(found: SearchResult) -> tuple[str, ...]:
    remarks = (found.remark, "its time was up" if found.out_of_time else None)
    return tuple(remark for remark in remarks if remark)


def _search(workspace: Workspace, name: str, removals: tuple[int, ...], seed: int) -> Search:
    """The search that answers all numbers removed."""
    n = workspace.stack.n_players
    search = Search.of(workspace.request, [n - removal for removal in removals])
    return replace(search, method=name, seed=seed)


def _executed(found: SearchResult, workspace: Workspace) -> int:
    """Layer-tokens that an engine runs which knows nothing and shares prefixes in a question."""
    texts = workspace.calibration.texts
    if found.searched is not None:
        work = plan(found.asked, texts.n_sequences, texts.length, workspace.stack.players)
        return work.layer_tokens_executed
    executed = found.ledger.layers_executed
    if found.second is not None:
        executed += layers_executed(found.union.seen()[0]) * found.second.texts.n_sequences
    return executed * texts.length


def _read(found: SearchResult, workspace: Workspace) -> int:
    """Pairs of coalition and sequence whose predictions were read."""
    if found.searched is not None:
        return len(found.asked) * workspace.calibration.texts.n_sequences
    n_second = 0 if found.second is None else found.second.texts.n_sequences
    search = int(np.isfinite(found.ledger.seen()[1]).sum())
    return search + n_second * found.union.n_asked
