"""What playing on a cluster took, in rows of a table."""

from coterie.report import words as w
from coterie.report.schema.cluster import ClusterPart


def cluster_rows(cluster: ClusterPart) -> list[tuple[str, str]]:
    """Who played, what playing on several machines cost, and what was set right."""
    told = f"{len(cluster.workers)} workers on {cluster.nodes} nodes, {cluster.worker} each"
    # Below zero where a run ended early: nothing was done twice then.
    told += f"; {max(0.0, cluster.done_twice):.1%} of layers run twice"
    rows = [("cluster", f"{told}, {w.size(cluster.bytes_moved)} moved")]
    if cluster.faults:
        first = f"the first: {cluster.faults[0]}"
        rows.append(("set right", f"{cluster.asked_again} parts asked again; {first}"))
    return rows
