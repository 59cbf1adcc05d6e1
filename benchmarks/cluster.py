"""What a cluster gains: local clusters of single-thread nodes, a killed node, and a forecast.

    python benchmarks/cluster.py [--nodes 1,2,4] [--budget N] [--sequences N] [--length N]
    python benchmarks/cluster.py --forecast SPEED,PART,DRIVER     no Ray: from costs known before

The paper's design on the reference model is observed by 1, 2 and 4 Ray nodes of one processor on
this machine, then once more while a worker is killed half-way. Where there are fewer processors
than nodes, wall-clock time says nothing: speed-up is told in processor seconds of the busiest
worker. The forecast plays the same dispatcher on a simulated crew with the costs just measured:
SPEED in layer executions per second, PART and DRIVER in seconds for every part.
"""

import argparse
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from coterie.engine.cluster.account import CrewAccount
from coterie.engine.cluster.connect import ray_library
from coterie.engine.cluster.crew import CrewQuestion
from coterie.engine.cluster.dispatch import Dispatch
from coterie.engine.cluster.division import Work
from coterie.engine.cluster.limits import Limits
from coterie.engine.cluster.simulated import Costs, SimulatedCrew
from coterie.game.coalitions import Coalitions
from coterie.game.prefixes import prefix_order
from coterie.game.search.task import SearchTask
from coterie.game.study_design import design, settings_of

TICKS = os.sysconf("SC_CLK_TCK")
FORECAST = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)


@dataclass
class Run:
    """What one run took.

    Attributes:
        nodes: Nodes of the cluster.
        cpu: Processor seconds of each worker while it was asked.
        executions: Layers that each worker ran.
        needed: Layers that one machine would have run.
        parts: Parts that were answered.
        moved: Bytes of texts, questions and answers.
        driver: Processor seconds of the driver while it asked.
        wall: Seconds by the clock.
        speed: Layer executions per processor second, of all workers together.
        faults: What went wrong.
    """

    nodes: int
    cpu: list[float]
    executions: list[int]
    needed: int
    parts: int
    moved: int
    driver: float
    wall: float
    speed: float
    faults: list[str]

    @property
    def twice(self) -> float:
        """Share of layers run beyond those of one machine."""
        return sum(self.executions) / self.needed - 1


def main() -> None:
    """Print the tables as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--nodes", default="1,2,4")
    parser.add_argument("--budget", type=int, default=512)
    parser.add_argument("--sequences", type=int, default=10)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--forecast", help="SPEED,PART,DRIVER: only forecast, from these costs")
    options = parser.parse_args()
    coalitions = paper_design(16, options.budget)
    if options.forecast:
        speed, part, driver = map(float, options.forecast.split(","))
    else:
        speed, part, driver = measured(options, coalitions)
    forecast("the same question", coalitions, speed, Costs(part, driver, 0.001))
    large = paper_design(32, 4096)
    forecast("32 layers, 4,096 coalitions, 0.1 s a layer", large, 10.0, Costs(part, driver, 0.001))


def paper_design(n_players: int, budget: int) -> Coalitions:
    """Distinct coalitions of the paper's design, the full model among them, in prefix order."""
    settings = settings_of(SearchTask(n_players, (n_players - 4,), budget=budget))
    strata = design(settings, n_players, np.random.default_rng([0, 2]))
    everyone = np.ones((1, n_players), dtype=bool)
    distinct = np.unique(np.concatenate([everyone, *(s.coalitions for s in strata)]), axis=0)
    return distinct[prefix_order(distinct)]


def measured(options: argparse.Namespace, coalitions: Coalitions) -> tuple[float, float, float]:
    """Run on local clusters; the costs that a forecast needs."""
    runs = []
    print(
        f"{len(coalitions)} coalitions of `reference`, {options.sequences} × {options.length}"
        f" tokens, {os.cpu_count()} processors\n"
    )
    print("| nodes | layers run | done twice | parts | moved | processor s | busiest | speed-up |")
    print("|---|---|---|---|---|---|---|---|")
    counts = [int(n) for n in options.nodes.split(",")]
    for n, kill in [*((n, False) for n in counts), (counts[-1], True)]:
        with local_cluster(n) as address:
            run = observed(address, n, coalitions, options, kill=kill)
        runs.append(run)
        first = runs[0]
        gain = sum(first.cpu) / max(run.cpu)
        print(
            f"| {n}{', one killed' if kill else ''} | {sum(run.executions):,} | {run.twice:.1%} |"
            f" {run.parts} | {run.moved / 1e6:.2f} MB | {sum(run.cpu):.1f} | {max(run.cpu):.1f} |"
            f" ×{gain:.2f} |",
            flush=True,
        )
    for line in runs[-1].faults:
        print(f"\n{line}")
    whole, killed = runs[-2], runs[-1]
    lost = sum(killed.executions) - sum(whole.executions)
    more = sum(killed.cpu) - sum(whole.cpu)
    print(f"\nthe killed worker cost {lost:+,} layers that were answered, {more:+.1f} processor s")
    # What a part costs beside its work: two runs of the same work in more and fewer parts.
    few, many = runs[0], whole
    work_few, work_many = sum(few.executions), sum(many.executions)
    per_part = (sum(many.cpu) - sum(few.cpu) * work_many / work_few) / (many.parts - few.parts)
    per_part, driver = max(per_part, 0.001), many.driver / many.parts
    print(f"\n--forecast {few.speed:.1f},{per_part:.4f},{driver:.5f}")
    return few.speed, per_part, driver


@contextmanager
def local_cluster(nodes: int) -> Iterator[str]:
    """Inside this block, so many Ray nodes of one processor run here."""
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - beside the driver, not behind it
    ray_library()
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_log_monitor": False}
    cluster = Cluster()
    try:
        cluster.add_node(include_dashboard=False, no_monitor=True, **node)
        for _ in range(nodes - 1):
            cluster.add_node(**node)
        yield cluster.address
    finally:
        cluster.shutdown()


def observed(
    address: str, nodes: int, coalitions: Coalitions, options: argparse.Namespace, *, kill: bool
) -> Run:
    """Observe the coalitions on a cluster; with ``kill`` a worker is killed half-way."""
    from coterie.store.observations import Store
    from coterie.verbs.shared.opened_model import opened_model
    from coterie.verbs.shared.prepared import prepare
    from coterie.verbs.shared.progress import NoProgress
    from coterie.verbs.values.request import ValuesRequest

    request = ValuesRequest(
        "reference",
        cluster=address,
        worker_cpus=1,
        device="cpu",
        dtype="float32",
        sequences=options.sequences,
        length=options.length,
    )
    prepared = prepare(request, progress=NoProgress(), choosing=False)
    with (
        TemporaryDirectory() as folder,
        Store(Path(folder) / "store.sqlite") as store,
        opened_model(prepared, store, NoProgress()) as model,
    ):
        return asked_of(model, prepared.calibration, coalitions, nodes=nodes, kill=kill)


def asked_of(model, texts, coalitions: Coalitions, *, nodes: int, kill: bool) -> Run:
    """Put the question to an opened model, and read off the processes what it took."""
    engine = model.play(texts).engine
    crew, account, sequences = model._crew, model._account, np.arange(texts.n_sequences)
    workers = {name: crew.workers[name] for name in crew.members()}
    # The full model once on every worker, so that what is timed is the question.
    for place in workers.values():
        full = np.ones((1, engine.n_players), dtype=bool)
        crew._ray.get(place.actor.ask.remote(engine.number, full, sequences))
    before = {name: cpu_of(place.process) for name, place in workers.items()}
    last, began, driver = dict(before), time.perf_counter(), time.process_time()
    done = 0
    for block in engine.observe(coalitions, sequences):
        done += len(block.rows)
        last |= {name: cpu_of(place.process) or last[name] for name, place in workers.items()}
        if kill and done > len(coalitions) / 2:
            kill = False
            os.kill(next(iter(workers.values())).process, signal.SIGKILL)
    names = [*workers, *(name for name in account.workers if name not in workers)]
    # One that joined later is read from its own account.
    cpu = [
        last[name] - before[name] if name in last else account.of(name).seconds for name in names
    ]
    return Run(
        nodes=nodes,
        cpu=cpu,
        executions=[account.of(name).spent.layer_executions for name in names],
        needed=account.needed,
        parts=sum(did.parts for did in account.workers.values()),
        moved=model.cluster_part().bytes_moved,
        driver=time.process_time() - driver,
        wall=time.perf_counter() - began,
        speed=Work(coalitions).whole / sum(cpu),
        faults=account.faults,
    )


def cpu_of(process: int) -> float:
    """Processor seconds that a process has taken; 0 where it is gone."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


def forecast(what: str, coalitions: Coalitions, speed: float, costs: Costs) -> None:
    """Print how far the same dispatcher scales, and what a killed worker costs there."""
    print(
        f"\n{what}: {speed:g} layers/s, {costs.part:g} s a part, {costs.driver:g} s of the driver\n"
    )
    print("| workers | parts | done twice | speed-up | of ideal | one killed |")
    print("|---|---|---|---|---|---|")
    alone = simulated(coalitions, 1, speed, costs)[0]
    for n in FORECAST:
        seconds, account = simulated(coalitions, n, speed, costs)
        killed = simulated(coalitions, n, speed, costs, kill=seconds / 2)[0] if n > 1 else None
        parts = sum(did.parts for did in account.workers.values())
        lost = "–" if killed is None else f"{killed / seconds - 1:+.1%} time"
        print(
            f"| {n:,} | {parts:,} | {account.twice():.1%} | ×{alone / seconds:.1f} |"
            f" {alone / seconds / n:.0%} | {lost} |",
            flush=True,
        )


def simulated(
    coalitions: Coalitions, workers: int, speed: float, costs: Costs, kill: float | None = None
) -> tuple[float, CrewAccount]:
    """Seconds that a question takes on so many equal workers, and who did what."""
    crew = SimulatedCrew({f"worker {n}": speed for n in range(1, workers + 1)}, costs=costs)
    if kill is not None:
        crew.plan(kill, "worker 1", "dies")
    account = CrewAccount()
    # As in a search: every worker's speed is known from earlier questions.
    for n in range(1, workers + 1):
        account.of(f"worker {n}").speed = speed
    asked = CrewQuestion(0, coalitions, np.arange(1))
    for _ in Dispatch(crew, asked, account, Limits(), []).blocks():
        pass
    return crew.now(), account


if __name__ == "__main__":
    main()
