"""`coterie prune MODEL --remove N --output DIR`."""

from coterie.cli import options as o
from coterie.cli.heal import Heal
from coterie.cli.mix import TaskItems, TasksDir, Utility
from coterie.cli.quantize import Quantize, QuantizeFirst


def command(
    model: o.Model,
    output: o.Output,
    remove: o.Remove = None,
    keep: o.Keep = None,
    ratio: o.Ratio = None,
    target_params: o.TargetParams = None,
    target_bytes: o.TargetBytes = None,
    target_speedup: o.TargetSpeedup = None,
    overwrite: o.Overwrite = False,
    players: o.Players = "layer",
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
    quantize: Quantize = None,
    quantize_first: QuantizeFirst = False,
    heal: Heal = None,
    as_json: o.AsJson = False,
    dry_run: o.DryRun = False,
) -> None:
    """Cut the layers a model can best do without, and prove what that cost.

    Observes many coalitions of layers on a calibration text, keeps the one that predicts best on
    that text and a second one, writes an ordinary checkpoint into DIR that plain `from_pretrained`
    loads, checks it, and judges it on held-out text. Stopped at any moment, the same command goes
    on where it was; with another --remove nothing is evaluated twice. With --utility, answers to
    zero-shot tasks choose, alone or mixed with the loss.

    Examples: coterie prune reference --remove 4 --output out;
    coterie prune meta-llama/Llama-3.2-1B --target-params 0.75 --output small --time 20m;
    coterie prune MODEL --remove 4 --utility piqa=0.5,kl=0.5 --output able
    """
    from coterie.cli.show import Display, show_with
    from coterie.report.schema.record import Record
    from coterie.report.terminal.utilities import print_mixed
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
        target_params=target_params,
        target_bytes=target_bytes,
        target_speedup=target_speedup,
        utility=utility,
        tasks_dir=None if tasks_dir is None else str(tasks_dir),
        task_items=task_items,
    )
    request.check(cutting=True)

    if quantize is not None or quantize_first or heal is not None:
        from coterie.cli.heal import compose
        from coterie.verbs.prune.stages import After

        return compose(
            request,
            After(quantize, quantize_first, heal),
            output=output,
            overwrite=overwrite,
            store=store,
            dry_run=dry_run,
            as_json=as_json,
        )

    def run(progress: Display) -> Record:
        from coterie.verbs.prune.plan import prune_plan
        from coterie.verbs.prune.run import prune

        if dry_run:
            return prune_plan(
                request, output=output, overwrite=overwrite, store=store, progress=progress
            )
        return prune(
            request, output=output, overwrite=overwrite, store=store, progress=progress
        ).record

    return show_with(print_mixed, run, as_json=as_json)
