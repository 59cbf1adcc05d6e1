"""Coterie finds the coalition of layers that carries a language model, and cuts the rest away.

    from coterie import PruneRequest, prune

    result = prune(PruneRequest("reference", remove=4), output="out")
    print(result.removed, result.record["verdict"]["ratio"])

Every verb of the command line is a function here, and takes a request of its own. The pieces are
usable alone, on any game: `coterie.game` (designs, semivalues, surrogates),
`coterie.store.observations` and `coterie.game.study` import neither torch nor transformers.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from coterie.models.loaded.deferred import defer_torchao
from coterie.models.loaded.quiet import silence_imports

if TYPE_CHECKING:
    from coterie.errors import CoterieError, UserError, VerificationError
    from coterie.verbs.after_cut.heal import heal
    from coterie.verbs.after_cut.heal_request import HealRequest
    from coterie.verbs.after_cut.quantize import quantize
    from coterie.verbs.after_cut.quantize_request import QuantizeRequest
    from coterie.verbs.after_cut.repair_request import RepairRequest
    from coterie.verbs.checkpoint_requests import (
        CutRequest,
        ExportRequest,
        InspectRequest,
        PushRequest,
    )
    from coterie.verbs.compare.request import CompareRequest
    from coterie.verbs.compare.run import compare
    from coterie.verbs.cut import cut
    from coterie.verbs.evaluate.bench import bench
    from coterie.verbs.evaluate.bench_request import BenchRequest
    from coterie.verbs.evaluate.request import EvaluateRequest
    from coterie.verbs.evaluate.run import evaluate
    from coterie.verbs.export.run import export
    from coterie.verbs.inspect import inspect
    from coterie.verbs.prune.request import PruneRequest
    from coterie.verbs.prune.whole import prune
    from coterie.verbs.push import push
    from coterie.verbs.report_request import ReportRequest
    from coterie.verbs.runs import runs
    from coterie.verbs.runs_request import RunsRequest
    from coterie.verbs.shared.result import Result
    from coterie.verbs.sparsify.request import SparsifyRequest
    from coterie.verbs.sparsify.run import sparsify
    from coterie.verbs.values.request import ValuesRequest
    from coterie.verbs.values.run import values

_HOME = {
    "BenchRequest": "coterie.verbs.evaluate.bench_request",
    "CompareRequest": "coterie.verbs.compare.request",
    "CoterieError": "coterie.errors",
    "CutRequest": "coterie.verbs.checkpoint_requests",
    "EvaluateRequest": "coterie.verbs.evaluate.request",
    "ExportRequest": "coterie.verbs.checkpoint_requests",
    "HealRequest": "coterie.verbs.after_cut.heal_request",
    "InspectRequest": "coterie.verbs.checkpoint_requests",
    "PruneRequest": "coterie.verbs.prune.request",
    "PushRequest": "coterie.verbs.checkpoint_requests",
    "QuantizeRequest": "coterie.verbs.after_cut.quantize_request",
    "RepairRequest": "coterie.verbs.after_cut.repair_request",
    "ReportRequest": "coterie.verbs.report_request",
    "RunsRequest": "coterie.verbs.runs_request",
    "Result": "coterie.verbs.shared.result",
    "SparsifyRequest": "coterie.verbs.sparsify.request",
    "UserError": "coterie.errors",
    "ValuesRequest": "coterie.verbs.values.request",
    "VerificationError": "coterie.errors",
    "bench": "coterie.verbs.evaluate.bench",
    "compare": "coterie.verbs.compare.run",
    "cut": "coterie.verbs.cut",
    "evaluate": "coterie.verbs.evaluate.run",
    "export": "coterie.verbs.export.run",
    "heal": "coterie.verbs.after_cut.heal",
    "inspect": "coterie.verbs.inspect",
    "prune": "coterie.verbs.prune.whole",
    "push": "coterie.verbs.push",
    "quantize": "coterie.verbs.after_cut.quantize",
    "runs": "coterie.verbs.runs",
    "sparsify": "coterie.verbs.sparsify.run",
    "values": "coterie.verbs.values.run",
}

__all__ = [
    "BenchRequest",
    "CompareRequest",
    "CoterieError",
    "CutRequest",
    "EvaluateRequest",
    "ExportRequest",
    "HealRequest",
    "InspectRequest",
    "PruneRequest",
    "PushRequest",
    "QuantizeRequest",
    "RepairRequest",
    "ReportRequest",
    "Result",
    "RunsRequest",
    "SparsifyRequest",
    "UserError",
    "ValuesRequest",
    "VerificationError",
    "bench",
    "compare",
    "cut",
    "evaluate",
    "export",
    "heal",
    "inspect",
    "prune",
    "push",
    "quantize",
    "runs",
    "sparsify",
    "values",
]


silence_imports()
defer_torchao()


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("coterie")
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'coterie' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
