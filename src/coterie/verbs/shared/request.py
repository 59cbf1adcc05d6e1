"""What every verb asks for that plays a game on a model: `prune` and `values` add their own."""

from dataclasses import dataclass
from typing import ClassVar

from coterie.errors import UserError
from coterie.game.estimation.estimators import ESTIMATORS
from coterie.game.search.methods import SEARCH_METHODS
from coterie.plain import Json
from coterie.verbs.options.amount import Amount, TargetOptions, check_amount, players_to_remove
from coterie.verbs.options.declare import as_left_out
from coterie.verbs.options.machine import (
    SEVERAL_DEVICES,
    Cluster,
    Device,
    Dtype,
    Memory,
    check_cluster,
    check_one_device,
    check_stream,
)
from coterie.verbs.options.search import (
    SURROGATES,
    ContributionOptions,
    MethodOptions,
    Players,
    SearchOptions,
    Time,
)
from coterie.verbs.options.source import Model, Revision, Trust, check_revision
from coterie.verbs.options.tasks import UtilityOptions, check_utility
from coterie.verbs.options.texts import Texts

SEQUENCES, LENGTH = 10, 128
"""Calibration as published: 10 sequences × 128 tokens (arXiv:2602.07804)."""

SEARCH_SEQUENCES = 32
"""Calibration of every other method, which decides on as many more: ten proved too few."""

HELD_OUT_SEQUENCES = 64
"""Most sequences that judge, of the same length; fewer where the text has fewer."""

JUDGED_BESIDE = 2 * SEARCH_SEQUENCES
"""Sequences that choose beside which those that judge are drawn, by every verb and method."""


# One record for `prune` and `values`: readers find the same fields in both.
_OF_OTHER_VERBS = {**as_left_out(TargetOptions), **as_left_out(ContributionOptions)}
"""What a record says of the options that its verb does not take."""


@dataclass(frozen=True, kw_only=True)
class Request(
    UtilityOptions,
    Cluster,
    Memory,
    Trust,
    Dtype,
    Device,
    SearchOptions,
    Time,
    Texts,
    MethodOptions,
    Players,
    Amount,
    Revision,
    Model,
):
    """Which model, how much of it goes, on which texts, and how hard to look."""

    HELP: ClassVar = {"device": SEVERAL_DEVICES}

    cuts: ClassVar[bool] = False
    """Whether a checkpoint is cut, or contributions are estimated alone."""

    def check(self) -> None:
        """Refuse what can be refused before anything is loaded.

        Raises:
            UserError: one clear line about the first thing that is wrong.
        """
        # First what contradicts itself, then single values, then what does not go together.
        check_amount(self)
        super().check()
        check_utility(self)
        check_stream(self.stream, self.players)
        if self.stream and self.utility is not None:
            raise UserError("--utility asks a model in memory: leave out --stream")
        if self.cluster is not None and self.utility is not None:
            raise UserError("--utility is played on this machine: leave out --cluster")
        alone = {"stream": self.stream, "utility": self.utility, "cluster": self.cluster}
        for option, given in alone.items():
            if given:
                check_one_device(self, f"--{option} uses one")
        check_revision(self.revision, self.model)
        check_cluster(self)

    # Options of `values` alone; here at their default, so that both share one code path.
    @property
    def estimator(self) -> str:
        """How contributions are estimated."""
        return next(iter(ESTIMATORS))

    @property
    def surrogate(self) -> str:
        """What the paper's estimator is taken through."""
        return SURROGATES[0]

    @property
    def target(self) -> str | None:
        """The name of the target that was given, if any."""
        return None

    @property
    def serve(self) -> tuple[str, ...]:
        """Runtimes that must read the cut model rightly; only a cut is made for some."""
        return ()

    @property
    def searches_repaired(self) -> bool:
        """Whether coalitions are compared by what they lose once repaired; only a cut is."""
        return False

    def plays(self) -> str:
        """The method that is played."""
        return self.method

    # Rankings calibrate on the published ten; ten were too few for searches.
    def sequences_asked(self) -> int:
        """How many sequences calibrate."""
        few = SEARCH_METHODS[self.plays()].ranks
        return self.sequences or (SEQUENCES if few else SEARCH_SEQUENCES)

    def players_to_remove(self, n_players: int, locked: tuple[int, ...]) -> int:
        """How many players go; the ratio is rounded half up and removes at least one.

        Raises:
            CutError: more than the unlocked players would go, or none.
        """
        return players_to_remove(self, self.player_kind(), n_players, locked)

    def as_json(self) -> dict[str, Json]:
        # Fields that appeared later are left out where unused: older records stay equal.
        """What was asked as plain JSON, with the options of `prune` and of `values` alike."""
        whole = {**_OF_OTHER_VERBS, **super().as_json()}
        if self.utility is None:  # nothing is said of tasks where none are asked
            for name in ("utility", "tasks_dir", "task_items"):
                del whole[name]
        if not self.stream:
            del whole["stream"]
        if not whole.get("serve"):
            whole.pop("serve", None)
        return whole
