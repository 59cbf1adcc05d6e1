"""The paper's method: one study of the published design, and a cut of those who contribute least.

Ding et al. 2026, arXiv:2602.07804; its steps are in `coterie.game.paper`.
"""

from typing import TYPE_CHECKING, ClassVar

from coterie.game.search.methods._interface import SearchMethod

if TYPE_CHECKING:
    from coterie.game.coalitions import Coalitions
    from coterie.game.search.ledger import Ledger
    from coterie.game.search.task import Finalists, SearchTask


class PaperRanking(SearchMethod):
    """The published method; one study answers every size."""

    name: ClassVar[str] = "paper"
    title: ClassVar[str] = "cooperative game (paper)"
    paper: ClassVar[str | None] = "2602.07804"
    summary: ClassVar[str] = "arXiv:2602.07804"
    chancy: ClassVar[bool] = True
    ranks: ClassVar[bool] = True
    keeps_time: ClassVar[bool] = True

    def least(self, task: "SearchTask") -> int:
        """Nothing: a budget that is too small is refused where the design is drawn."""
        return 0

    def known_beforehand(self, task: "SearchTask") -> "Coalitions":
        # Imported late: the table of methods is read without numpy.
        """The full model, the strata of the design and the checks of the surrogate."""
        from coterie.game.study import STREAM
        from coterie.game.study_design import checked, settings_of

        return checked(settings_of(task), task.n_players, task.generator(STREAM))

    def play(self, ledger: "Ledger", task: "SearchTask") -> "Finalists":
        """Run the study, then keep the highest contributions at every size."""
        import numpy as np

        from coterie.game.search.plain import answers_of
        from coterie.game.search.task import Finalists
        from coterie.game.study import study_for

        study = study_for(ledger.game, task)
        coalitions = np.array([study.keep(keep) for keep in task.keeps])
        return Finalists(answers_of("paper", ledger, coalitions), study=study)
