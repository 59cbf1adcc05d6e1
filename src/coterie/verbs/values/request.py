"""What `values` is asked for: what is estimated of the players, and on which texts."""

from dataclasses import dataclass
from typing import ClassVar

from coterie.errors import UserError
from coterie.game.estimation.estimators import ESTIMATORS
from coterie.verbs.options.search import ContributionOptions, check_contribution_options
from coterie.verbs.shared.request import Request


@dataclass(frozen=True, kw_only=True)
class ValuesRequest(ContributionOptions, Request):
    """Which model, on which texts, and what is estimated of its players.

    Args:
        model: Hugging Face id, local folder, or ``"reference"``, the model that ships inside.
        remove: The surrogate is also checked at the size that cutting so many would leave; or give
            ``keep``, or ``ratio``.
        players: What contributes: each ``"layer"``, its ``"attention"`` or ``"mlp"`` block, or
            either of them (``"sublayer"``).
        calibration: Text that decides; ``held_out``, ``sequences`` and ``length`` as in `prune`.
        budget: Most distinct coalitions to evaluate; ``time`` bounds them in seconds.
        lock: Layers (0-based) that stay, with all their blocks.
        front: Look for the best coalition of every size up to half of the players removed.
        repeats: Times to run, with other seeds and other texts, to see what comes back.
        estimator: How contributions are estimated.
        surrogate: What the paper's estimator is taken through; ``"auto"`` by held-out fidelity.
        interactions: Estimate what every two players have to do with each other.
        utility: A mix of tasks and text measures instead of the loss: ``"piqa=0.5,kl=0.5"``.

    >>> ValuesRequest("reference", estimator="kernel").command()
    'coterie values reference --estimator kernel'
    """

    VERB = "values"
    HELP: ClassVar = {
        "remove": "Check the surrogate at the size that cutting N would leave.",
        "players": "What contributes: `layer`, its `attention` or `mlp` (feed-forward) block, or "
        "`sublayer`: either. Any family of residual blocks; to cut them, see `prune --help`.",
    }

    def check(self) -> None:
        """Refuse what can be refused before anything is loaded.

        Raises:
            UserError: one clear line about the first thing that is wrong.
        """
        super().check()
        if self.goes_on_among_blocks:
            raise UserError(
                f"--players {self.players} is a cut in two parts, and contributions are of players"
                " of one kind: give layer or sublayer"
            )
        check_contribution_options(self, self.method, self.amounts())
        # `by_study` is false for estimators that ask the game itself, without a surrogate.
        estimates = not ESTIMATORS[self.estimator].by_study
        if self.utility is not None and (
            self.front or self.interactions or self.repeats > 1 or estimates
        ):
            raise UserError(
                "--utility estimates contributions through a surrogate: leave out --front, "
                "--interactions, --repeats and --estimator"
            )

    def plays(self) -> str:
        """The method that is played: contributions are estimated, unless coalitions are sought."""
        # Defaults (sequences, budget) follow the method that is really run.
        return self.method if self.front or self.repeats > 1 else "paper"
