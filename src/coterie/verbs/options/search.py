"""How a coalition is chosen, and how contributions are estimated."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Protocol

from coterie.errors import UserError
from coterie.game.estimation.estimators import ESTIMATORS
from coterie.game.search.methods import SEARCH_METHODS
from coterie.players import BLOCKS, LAYERS_THEN_BLOCKS, Kind
from coterie.verbs.options.declare import Option, Options
from coterie.verbs.options.forms import LAYERS, SECONDS

# In the request, not in game/surrogates: these are names that a user types.
SURROGATES = ("paper", "pairwise", "ensemble", "explained", "auto")
"""What the paper's estimator can be taken through; the first is the default."""


class Summed(Protocol):
    """A method that says in a few words what it does."""

    summary: ClassVar[str]


def summaries(table: Mapping[str, Summed]) -> str:
    """The methods of a table with what each does, for a help text."""
    return ", ".join(f"`{name}` ({one.summary})" for name, one in table.items())


@dataclass(frozen=True, kw_only=True)
class Players(Options):
    """What a player is."""

    players: Annotated[
        str,
        Option(
            "--players",
            "KIND",
            "What may be cut: `layer`, its `attention` or `mlp` (feed-forward) block, or "
            "`sublayer`: either. `layer+block`: whole layers first, as `layer`, then single blocks "
            "with at most the parameters of that answer (of a target, what it allows), within "
            "twice the work of the search of layers; blocks are cut where they lose less by more "
            "than one standard error on the texts that decide, and are not repaired. Without "
            "single blocks only Llama and Mistral can be saved, in the block format of "
            "Nemotron-NAS: transformers loads it with trust_remote_code=True; for feed-forward "
            "widths that are a multiple of 256 vLLM does too, mlx-lm without "
            "code, llama.cpp where attention blocks alone are gone (see --serve).",
            choices=lambda: (*BLOCKS, LAYERS_THEN_BLOCKS),
        ),
    ] = "layer"

    @property
    def goes_on_among_blocks(self) -> bool:
        """Whether single blocks are searched after whole layers."""
        return self.players == LAYERS_THEN_BLOCKS

    def player_kind(self) -> Kind:
        """What a player is; where blocks come after layers, what the search begins with.

        Raises:
            UserError: none of the kinds there are.
        """
        if self.goes_on_among_blocks:
            return "layer"
        for kind in BLOCKS:
            if self.players == kind:
                return kind
        raise UserError(f"--players {self.players} are unknown: there are {', '.join(BLOCKS)}")


@dataclass(frozen=True, kw_only=True)
class MethodOptions(Options):
    """How the coalition that stays is chosen."""

    method: Annotated[
        str,
        Option(
            "--method",
            "NAME",
            # A function: methods registered later must show in the help too.
            lambda: f"How the coalition is chosen: {summaries(SEARCH_METHODS)}.",
            choices=lambda: SEARCH_METHODS,
        ),
        # The first method of the table is the default, here and in every report.
    ] = next(iter(SEARCH_METHODS))


@dataclass(frozen=True, kw_only=True)
class Time(Options):
    """How long a search may observe."""

    time: Annotated[
        float | None,
        Option(
            "--time",
            "T",
            "Most time to observe: 90s, 20m, 2h. Then the best known is the answer; the same "
            "command goes on.",
            form=SECONDS,
            above=0,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Seed(Options):
    """Where every random draw begins."""

    seed: Annotated[int, Option("--seed", "N", "One seed decides every draw.", least=0)] = 0


@dataclass(frozen=True, kw_only=True)
class SearchOptions(Seed):
    """How hard to look, and what stays whatever happens."""

    budget: Annotated[
        # Left open: what a default budget costs depends on the method and on the model's depth.
        int | None,
        Option(
            "--budget",
            "N",
            "Most distinct coalitions to evaluate. Default: the published design for `paper`; "
            "for `guided` as many as still improve the cut, within three times the work of "
            "greedy; for `evolve` what a tenth of the paper's layer-tokens pays for.",
            above=0,
        ),
    ] = None
    lock: Annotated[
        tuple[int, ...],
        Option("--lock", "LIST", "Layers that stay, 0-based: 0,1,31.", form=LAYERS),
    ] = ()


@dataclass(frozen=True, kw_only=True)
class ContributionOptions(Options):
    """What is estimated about the players, and how."""

    # The front and repeats answer questions of their own and exclude each other.
    front: Annotated[
        bool,
        Option(
            "--front", "", "The best coalition of every size, one player removed to half of them."
        ),
    ] = False
    repeats: Annotated[
        int,
        Option(
            "--repeats",
            "R",
            "Run --method R times by other seeds and R times on other texts: how much of the "
            "ranking and of the cut comes back. Needs an amount such as --remove.",
            above=0,
        ),
    ] = 1
    estimator: Annotated[
        str,
        Option(
            "--estimator",
            "NAME",
            lambda: (
                "How contributions are estimated, from the true game in nats unless said "
                f"otherwise: {summaries(ESTIMATORS)}."
            ),
            choices=lambda: ESTIMATORS,
        ),
        # As with methods: the table's first estimator is the default.
    ] = next(iter(ESTIMATORS))
    surrogate: Annotated[
        str,
        Option(
            "--surrogate",
            "NAME",
            "For --estimator paper: `paper` (network), `pairwise`, `ensemble`, `explained`, or "
            "`auto`: the highest held-out fidelity.",
            choices=lambda: SURROGATES,
        ),
    ] = SURROGATES[0]
    interactions: Annotated[
        bool,
        Option("--interactions", "", "Which players stand in for each other, or need another."),
    ] = False


def check_contribution_options(asked: ContributionOptions, method: str, amounts: list[str]) -> None:
    """Refuse what cannot be estimated together.

    Args:
        asked: What is estimated.
        method: How coalitions are looked for.
        amounts: The options that say how much to cut, of those that were given.

    Raises:
        UserError: two of them exclude each other, or one lacks another.
    """
    # First what excludes each other, then what lacks something it needs.
    if asked.front and (amounts or asked.repeats > 1):
        raise UserError("--front is every size at once: give it without an amount or --repeats")
    if asked.repeats > 1 and not amounts:
        raise UserError("--repeats compares cuts: say how much, with --remove N")
    # A method that ranks once nests its coalitions: its front says nothing new.
    if asked.front and SEARCH_METHODS[method].ranks:
        raise UserError("--front needs a method that searches: give --method guided")
    # Interactions and surrogates are read off the fitted study; true-game estimators have none.
    by_study = ESTIMATORS[asked.estimator].by_study
    if asked.interactions and (asked.front or not by_study):
        raise UserError("--interactions go with --estimator paper, and not with --front")
    if not by_study and asked.surrogate != SURROGATES[0]:
        raise UserError(f"--surrogate goes with --estimator paper, not {asked.estimator}")
