"""`coterie values MODEL`."""

from coterie.cli import options as o
from coterie.cli.mix import TaskItems, TasksDir, Utility


def command(
    model: o.Model,
    remove: o.SizeRemove = None,
    keep: o.Keep = None,
    ratio: o.Ratio = None,
    players: o.StudiedPlayers = "layer",
    method: o.Method = "guided",
    revision: o.Revision = None,
    calibration: o.Calibration = None,
    held_out: o.HeldOut = None,
    sequences: o.Sequences = None,
    length: o.Length = None,
    bos: o.Bos = "auto",
    budget: o.Budget = None,
    time: o.Time = None,
    lock: o.Lock = None,
    front: o.Front = False,
    repeats: o.Repeats = 1,
    estimator: o.Estimator = "paper",
    surrogate: o.Surrogate = "paper",
    interactions: o.Interactions = False,
    stream: o.Stream = False,
    state_memory: o.StateMemory = None,
    seed: o.Seed = 0,
    store: o.StoreFile = None,
    study: o.Study = None,
    device: o.Devices = "auto",
    dtype: o.Dtype = "auto",
    trust_remote_code: o.TrustRemoteCode = False,
    utility: Utility = None,
    tasks_dir: TasksDir = None,
    task_items: TaskItems = 100,
    as_json: o.AsJson = False,
) -> None:
    """Estimate what each layer contributes, and stop: prune without the cut.

    Observes coalitions of layers of several sizes on a calibration text, fits the surrogate,
    reports how faithful it is, and every layer's contribution with its standard errors by source.

    Also: the best coalition of every size (--front), how much of an answer comes back (--repeats),
    contributions from the true game (--estimator), which layers stand in for each other
    (--interactions).

    Example: coterie values reference --budget 512
    """
    from coterie.cli.show import Display, show, show_with
    from coterie.report.schema.record import Record
    from coterie.verbs.shared.request import Request

    request = Request(
        model=model,
        remove=remove,
        keep=keep,
        ratio=ratio,
        players=players,
        method=method,
        revision=revision,
        calibration=calibration,
        held_out=held_out,
        sequences=sequences,
        length=length,
        bos=bos,
        budget=budget,
        time=o.parse_time(time),
        lock=o.parse_layers(lock),
        seed=seed,
        device=device,
        dtype=dtype,
        trust_remote_code=trust_remote_code,
        study=study,
        stream=stream,
        state_memory=o.parse_bytes(state_memory),
        front=front,
        repeats=repeats,
        estimator=estimator,
        surrogate=surrogate,
        interactions=interactions,
        utility=utility,
        tasks_dir=None if tasks_dir is None else str(tasks_dir),
        task_items=task_items,
    )
    request.check(cutting=False)
    if utility is not None:
        from coterie.report.schema.utilities import UtilityReport
        from coterie.report.terminal.utilities import print_utilities
        from coterie.verbs.search.utilities import utility_values

        def weigh(progress: Display) -> UtilityReport:
            return utility_values(request, store=store, progress=progress)

        show_with(print_utilities, weigh, as_json=as_json)
        return

    def run(progress: Display) -> Record:
        from coterie.verbs.values.run import values

        return values(request, store=store, progress=progress).record

    show(run, as_json=as_json)
