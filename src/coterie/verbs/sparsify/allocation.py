"""Share one sparsity out among the layers of an opened model, by the rule that was asked for."""

from coterie.sparsity.allocation import to_pattern
from coterie.verbs.shared.progress import Progress
from coterie.verbs.shared.workspace import Workspace
from coterie.verbs.sparsify.request import SparsifyRequest
from coterie.verbs.sparsify.rules._interface import Allocation, RuleTask


def share_out(workspace: Workspace, request: SparsifyRequest, progress: Progress) -> Allocation:
    """The sparsity of every unit, with the weighted mean that was asked for.

    Args:
        workspace: The opened model.
        request: How sparse, and by which rule.
        progress: Shows what is being done.

    Raises:
        UserError: the target cannot be met, or nothing tells the layers apart.
    """
    task = RuleTask.of(workspace, request, progress)
    found, units = request.rule().allocate(task), task.units
    # A rule may give any share of zeros; a pattern N:M allows multiples of 1/M alone.
    if units.is_pattern:
        kept = to_pattern(found.sparsity, units.weights, units.steps, task.bounds)
        found.sparsity = 1 - kept / units.steps
    return found
