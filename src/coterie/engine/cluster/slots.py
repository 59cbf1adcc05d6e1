"""What a worker needs, and how many of them the nodes of a cluster have room for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from coterie.errors import UserError

Nodes = Sequence[Mapping[str, Any]]
"""Nodes as `ray.nodes` lists them."""


@dataclass(frozen=True)
class Needs:
    """What is reserved for a worker: processors, and a GPU or none."""

    cpus: int
    gpus: int = 0

    def __str__(self) -> str:
        cpus = f"{self.cpus} processor{'s' if self.cpus > 1 else ''}"
        return f"a GPU and {cpus}" if self.gpus else cpus

    def bundle(self) -> dict[str, float]:
        """The same in Ray's words."""
        return {"CPU": self.cpus, **({"GPU": self.gpus} if self.gpus else {})}

    def on(self, node: Mapping[str, Any]) -> int:
        """How many workers a node has room for, were it free."""
        if not node.get("Alive"):
            return 0
        has = node.get("Resources", {})
        return min(int(has.get(name, 0) // amount) for name, amount in self.bundle().items())


def room(nodes: Nodes, needs: Needs) -> int:
    """How many workers all nodes have room for, were they free.

    >>> room([{"Alive": True, "Resources": {"CPU": 9.0}}] * 2, Needs(4))
    4
    """
    return sum(needs.on(node) for node in nodes)


def needs_on(nodes: Nodes, device: str, asked: str, cpus: int | None) -> Needs:
    """What a worker needs on a cluster, to compute as the driver does.

    Args:
        nodes: Of the cluster.
        device: Kind of device that the driver computes on.
        asked: What was asked of it: ``auto``, or a device.
        cpus: Processors of a worker; None is one beside a GPU, else those of the smallest node.

    Raises:
        UserError: the cluster has no such device, or no node that is large enough.
    """
    there = [node["Resources"] for node in nodes if node.get("Alive")]
    n_gpus = int(sum(has.get("GPU", 0) for has in there))
    if device == "cpu" and asked == "auto" and n_gpus:
        raise UserError(
            f"the cluster has {n_gpus} GPUs and this machine none, and driver and workers compute"
            " alike: start the run on a machine with a GPU (ray job submit --entrypoint-num-gpus"
            " 1), or compute on processors with --device cpu"
        )
    if device not in ("cpu", "cuda"):
        raise UserError(f"--cluster computes on cuda or cpu, not on {device}: add --device cpu")
    smallest = int(min((has["CPU"] for has in there if has.get("CPU", 0) >= 1), default=1))
    needs = Needs(cpus or (1 if device == "cuda" else smallest), int(device == "cuda"))
    if not room(nodes, needs):
        most = int(max((has.get("CPU", 0) for has in there), default=0))
        raise UserError(
            f"no node of the cluster has {needs} for a worker: the largest has {most} processors,"
            f" all together {n_gpus} GPUs; see --worker-cpus and --device"
        )
    return needs
