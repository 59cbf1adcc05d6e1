"""`coterie bench MODEL…`."""

from coterie.cli.show import Display, show
from coterie.report.schema.bench import SpeedReport
from coterie.verbs.evaluate.bench_request import BenchRequest
from coterie.verbs.options.run import StoredRun


def command(request: BenchRequest, run: StoredRun) -> None:
    """Time models on this machine: dense against cut.

    Measures prefill, time to the first token, time per further token, throughput, and peak memory
    above the weights, for every batch with every context. Models are timed in turn, round after
    round, and compared within a round. The number of threads is torch's own: set OMP_NUM_THREADS.

    Examples: coterie bench reference out --batch 1,8 --context 64,256;
    coterie bench Qwen/Qwen3-0.6B small --figure speed.svg
    """
    from coterie.report.terminal.bench import print_speed

    # Imported inside: the verb loads torch, and `coterie bench --help` must not.
    def act(progress: Display) -> SpeedReport:
        from coterie.verbs.evaluate.bench import bench

        return bench(request, store=run.store, progress=progress)

    show(act, print_speed, run)
