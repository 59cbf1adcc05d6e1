"""How stable an answer is: the same search with other seeds, and on other texts."""

from dataclasses import dataclass, replace

import numpy as np

from coterie.game.coalitions import Coalition, Vector
from coterie.game.stability import cut_overlaps, rank_overlaps
from coterie.plain import finite
from coterie.report.schema.contributions import OverlapPart, StabilityPart
from coterie.verbs.search.choose import choose
from coterie.verbs.search.nearby import contributions_near
from coterie.verbs.search.result import Search
from coterie.verbs.shared.prepared import prepare
from coterie.verbs.shared.progress import Progress
from coterie.verbs.shared.workspace import Workspace


@dataclass(frozen=True, eq=False)
class _Run:
    coalition: Coalition
    contributions: Vector | None


def stability(
    workspace: Workspace, keep: int, repeats: int, *, progress: Progress
) -> StabilityPart:
    """Run the asked method again, by other seeds on the same texts, then on other texts.

    Other texts are those that another seed draws; the search itself then keeps its seed.

    Args:
        workspace: The model and the texts of the first run.
        keep: How many players stay.
        repeats: Runs by each, the first included.
        progress: Told which run it is.
    """
    request = workspace.request
    first = _run(workspace, keep, request.seed, progress)
    # One thing changes at a time: first the seed of the search, then the texts.
    seeds, texts = [first], [first]
    for number in range(1, repeats):
        progress.say(f"repeat {number + 1} of {repeats}: another seed, the same texts")
        seeds.append(_run(workspace, keep, request.seed + number, progress))
    for number in range(1, repeats):
        progress.say(f"repeat {number + 1} of {repeats}: other texts, the same seed")
        # A study has one set of settings, so repeats on other texts are not stored in it.
        drawn = replace(request, seed=request.seed + number, study=None)
        other = workspace.on(prepare(drawn, progress=progress))
        texts.append(_run(other, keep, request.seed, progress))
    return StabilityPart(
        removed=workspace.stack.n_players - keep,
        method=request.method,
        overlaps=[_overlap("search seeds", seeds), _overlap("calibration texts", texts)],
    )


def _run(workspace: Workspace, keep: int, seed: int, progress: Progress) -> _Run:
    search = replace(Search.of(workspace.request, [keep]), seed=seed)
    found = choose(workspace, search, progress)
    if found.searched is not None:
        return _Run(found.keep(keep), found.searched.study.contributions.estimate.values)
    near = contributions_near(workspace, found, progress)
    return _Run(found.keep(keep), None if near is None else near.estimate.values)


def _overlap(over: str, runs: list[_Run]) -> OverlapPart:
    known = [run.contributions for run in runs if run.contributions is not None]
    ranks = rank_overlaps(np.array(known)) if len(known) > 1 else np.zeros(0)
    return OverlapPart(
        over=over,
        runs=len(runs),
        ranks=[finite(rank) for rank in ranks],
        cuts=cut_overlaps(np.array([run.coalition for run in runs])).tolist(),
        removed=[np.flatnonzero(~run.coalition).tolist() for run in runs],
    )
