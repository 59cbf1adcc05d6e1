"""Every method that can be compared, ours and others', played the same way on an opened model.

Of two names for one method one is kept: SLEB is greedy search with its first and last layer kept,
EvoPress is evolution with its own schedule, Shortened-LLaMA's perplexity is one-shot ranking.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from coterie.engine.cost import Spent
from coterie.engine.model_game import ModelGame
from coterie.game.coalitions import Game
from coterie.game.search.methods import SEARCH_METHODS, SearchMethod
from coterie.game.utilities import floor_nll
from coterie.models.loaded.stack import Stack
from coterie.rivals import RIVALS
from coterie.rivals.interface import Outcome, Task
from coterie.store.stored_game import StoredGame
from coterie.verbs.compare.ours import in_layers, then_in_blocks
from coterie.verbs.shared.progress import Progress
from coterie.verbs.shared.workspace import Workspace


class Method(Protocol):
    """A method by name: what a table calls it, where it was published, what its answer needs."""

    @property
    def name(self) -> str:
        """What it is called on the command line."""

    @property
    def title(self) -> str:
        """What it is called in a table."""

    @property
    def paper(self) -> str | None:
        """Where it was published; None for our own and for yardsticks."""

    @property
    def chancy(self) -> bool:
        """Whether the seed matters."""


AMONG_BLOCKS = "+blocks"
"""What stands behind the name of a search of ours that goes on among single blocks."""


@dataclass(frozen=True)
class WithBlocks:
    """A search of whole layers that goes on among blocks, as `prune --players layer+block` does."""

    layers: SearchMethod
    paper: str | None = None
    chancy: bool = True

    @property
    def name(self) -> str:
        """That of the search, and what it does beside."""
        return self.layers.name + AMONG_BLOCKS

    @property
    def title(self) -> str:
        """The same for a table."""
        return f"{self.layers.title}, then blocks"


def methods() -> dict[str, Method]:
    """Every method that can be compared, by its name."""
    further = [WithBlocks(one) for one in SEARCH_METHODS.values() if one.goes_on]
    return {**SEARCH_METHODS, **{one.name: one for one in further}, **RIVALS}


def ranks(name: str) -> bool:
    """Whether a method is one study on the published number of texts."""
    return name in SEARCH_METHODS and SEARCH_METHODS[name].ranks


def searches(name: str) -> bool:
    """Whether a method decides between its finalists on a second set of texts."""
    name = name.removesuffix(AMONG_BLOCKS)
    return name in SEARCH_METHODS and not SEARCH_METHODS[name].ranks


REPAIRED = "+repair"
"""What stands behind the name of a method whose answers were repaired."""


def title_of(name: str) -> str:
    """What a table calls a method, its answers repaired or not."""
    plain = name.removesuffix(REPAIRED)
    title = methods()[plain].title
    return title if name == plain else f"{title}, repaired"


STANDARD = ("paper", "guided", f"guided{AMONG_BLOCKS}", *RIVALS)
"""What is compared where nothing is named."""


def play(
    workspace: Workspace, name: str, removals: tuple[int, ...], seed: int, progress: Progress
) -> Outcome:
    """Let one method answer all numbers removed.

    Args:
        workspace: The opened model and its games.
        name: Name of the method.
        removals: Numbers of layers to remove.
        seed: Decides what it draws by chance.
        progress: Shows what is being done.

    Raises:
        UserError: it does not apply to this model; one line says why.
    """
    # Our own methods need the whole workspace; a rival gets a task and nothing else.
    if name in SEARCH_METHODS:
        return in_layers(workspace, name, removals, seed, progress)
    if name not in RIVALS:
        layers = name.removesuffix(AMONG_BLOCKS)
        return then_in_blocks(workspace, layers, removals, seed, progress)
    return RIVALS[name].play(rival_task(workspace, removals, seed))


def rival_task(workspace: Workspace, removals: tuple[int, ...], seed: int) -> Task:
    """What a rival is given: the same texts, and the game behind the same store.

    Args:
        workspace: The opened model and its games.
        removals: Numbers of layers to remove.
        seed: Decides what the rival draws by chance.
    """
    played, engines = workspace.calibration, [workspace.calibration.engine]

    def other_players(stack: Stack) -> Game:
        store, tokens = played.game.store, played.texts.tokens
        # The game of the layers is known by its number; this one differs in its players alone.
        number = store.game({"as_game": played.game.number, "players": stack.players})
        engine = ModelGame(workspace.model, tokens, stack=stack, shape=played.engine.shape)
        # What other players run counts as well, though on an engine of its own.
        engines.append(engine)
        return StoredGame(engine, store, number)

    def spent() -> Spent:
        return sum((engine.spent for engine in engines), Spent())

    return Task(
        model=workspace.model,
        stack=workspace.stack,
        tokens=played.texts.tokens,
        documents=played.texts.documents,
        game=played.game,
        play=other_players,
        spent=spent,
        floor=floor_nll(played.engine.vocabulary),
        removals=tuple(sorted(removals)),
        # 5 keeps this stream apart from those that drew the texts of the same seed.
        rng=np.random.default_rng([seed, 5]),
        locked=np.array(workspace.locked, dtype=np.intp),
    )
