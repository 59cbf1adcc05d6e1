"""What `compare` is asked for: which methods, at which sizes, judged how often and on what."""

from dataclasses import dataclass, fields
from typing import Annotated, ClassVar

from coterie.errors import CutError, UserError
from coterie.game.search.methods import SEARCH_METHODS
from coterie.plain import Json
from coterie.verbs.options.declare import Option, Options, check_choice
from coterie.verbs.options.forms import NAMES, NUMBERS
from coterie.verbs.options.machine import Cluster, Device, Dtype, check_one_device
from coterie.verbs.options.search import SearchOptions, Time
from coterie.verbs.options.source import Model, Revision, Trust
from coterie.verbs.options.tasks import Tasks, check_limit
from coterie.verbs.options.texts import Texts
from coterie.verbs.prune.request import PruneRequest


def _told_methods() -> str:
    # Imported when a help text is read, as the table of rivals is needed by nothing else here.
    from coterie.rivals import RIVALS

    ours, rivals = ", ".join(SEARCH_METHODS), ", ".join(RIVALS)
    return (
        f"Which methods: {ours}, guided+blocks, which goes on among single blocks (as `prune"
        f" --players layer+block`), or published rivals: {rivals}. Default: paper, guided,"
        " guided+blocks and all rivals."
    )


@dataclass(frozen=True, kw_only=True)
class ContestOptions(Options):
    """Who plays, at which sizes, how often, and on what the answers are judged."""

    removals: Annotated[
        tuple[int, ...],
        Option("--remove", "LIST", "Numbers of layers to remove: 3,6,9.", form=NUMBERS),
    ]
    methods: Annotated[
        tuple[str, ...],
        Option(
            "--methods",
            "LIST",
            _told_methods,
            form=NAMES,
        ),
    ] = ()
    seeds: Annotated[
        int, Option("--seeds", "N", "Runs of each method that depends on chance.", least=1)
    ] = 3
    lengths: Annotated[
        tuple[int, ...],
        Option(
            "--lengths",
            "LIST",
            "Tokens of the held-out sequences, one column each: 128, 2048 or 128,2048; refused "
            "above the model's context. Default: the calibration's length.",
            form=NUMBERS,
        ),
    ] = ()
    rounds: Annotated[
        int,
        Option("--rounds", "N", "Timed rounds behind tokens/s; 0 times nothing.", least=0),
    ] = 3
    repair: Annotated[
        str | None,
        Option(
            "--repair",
            "NAME",
            "Beside every method that removes whole layers, a row of its answer repaired: `auto`, "
            "or a method of `coterie repair`. Guided search then knows of the repair.",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class CompareRequest(
    Tasks,
    ContestOptions,
    Cluster,
    Trust,
    Dtype,
    Device,
    SearchOptions,
    Time,
    Texts,
    Revision,
    Model,
):
    """Which methods, at which sizes, on which model and texts.

    Args:
        model: Hugging Face id, local folder, or ``"reference"``, the model that ships inside.
        removals: Numbers of layers to remove.
        methods: Names; empty for the standard ones.
        seeds: Runs of every method that depends on chance; the texts stay the same.
        lengths: Tokens of the held-out sequences; empty for the calibration's length.
        tasks: Zero-shot tasks, of the harness or of ``tasks_dir``; ``limit`` items of each.
        rounds: Timed rounds behind tokens per second; 0 times nothing.
        repair: Name of a repair, or ``"auto"``: a second row for every answer of whole layers.

    >>> CompareRequest("reference", removals=(2, 4), methods=("guided",)).command()
    'coterie compare reference --remove 2,4 --methods guided --seeds 3'
    """

    VERB = "compare"
    HELP: ClassVar = {
        "tasks": "Also zero-shot accuracy, through lm-evaluation-harness: piqa,arc_easy."
    }
    TOLD: ClassVar = frozenset({"seeds"})

    @property
    def played(self) -> tuple[str, ...]:
        """The methods by name, in the order they play."""
        # Imported when asked for: it loads torch.
        from coterie.verbs.compare.methods import STANDARD

        return self.methods or STANDARD

    @property
    def repairs(self) -> bool:
        """Whether answers are judged repaired too."""
        return self.repair not in (None, "none")

    @property
    def rows(self) -> tuple[str, ...]:
        """The names of all rows of one number removed, in order."""
        from coterie.verbs.compare.methods import REPAIRED

        if not self.repairs:
            return self.played
        return tuple(row for name in self.played for row in (name, name + REPAIRED))

    def opening(self) -> PruneRequest:
        """The request that opens the game: a cut of the most layers that are removed."""
        # What only a comparison has is left out, and the rest is a cut like any other.
        own = {one.name for kind in (ContestOptions, Tasks) for one in fields(kind)}
        shared = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in own}
        return PruneRequest(remove=max(self.removals), **shared)

    def check(self) -> None:
        """Refuse what can be refused before anything is loaded.

        Raises:
            UserError: one clear line about the first thing that is wrong.
        """
        super().check()
        check_contest(self)
        check_limit(self.limit)
        check_one_device(self, "compare measures seconds and memory on one")
        if self.repairs:
            # Imported when asked for: it loads torch.
            from coterie.repair.choose import names_of

            names_of(str(self.repair))
        self.opening().check()

    def as_json(self) -> dict[str, Json]:
        """What is asked beside the game, as plain JSON."""
        return {
            "removals": list(self.removals),
            "methods": list(self.played),
            "seeds": self.seeds,
            "lengths": list(self.lengths),
            "tasks": list(self.tasks),
            "limit": self.limit,
            "rounds": self.rounds,
            # Absent where none is asked for, as in comparisons written before there were repairs.
            **({"repair": self.repair} if self.repairs else {}),
        }


def check_contest(asked: ContestOptions) -> None:
    """Refuse no size, anything named twice, and a method that is not there.

    Raises:
        UserError: one line.
        CutError: nothing would be removed.
    """
    from coterie.verbs.compare.methods import methods

    if not asked.removals:
        raise UserError("how much to cut is not said: give --remove 3,6,9")
    # What is named twice would be played once and counted twice.
    for given in (asked.removals, asked.methods, asked.lengths):
        if len(set(given)) < len(given):
            raise UserError(f"{', '.join(map(str, given))} names one twice: name each once")
    if min(asked.removals) < 1:
        raise CutError(f"--remove {min(asked.removals)} must be above zero")
    for method in asked.methods:
        check_choice("--methods", method, methods())
