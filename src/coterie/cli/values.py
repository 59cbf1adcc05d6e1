"""`coterie values MODEL`."""

from coterie.cli import options as o


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
    seed: o.Seed = 0,
    store: o.StoreFile = None,
    study: o.Study = None,
    device: o.Device = "auto",
    dtype: o.Dtype = "auto",
    trust_remote_code: o.TrustRemoteCode = False,
    as_json: o.AsJson = False,
) -> None:
    """Estimate what each layer contributes, and stop: prune without the cut.

    Observes coalitions of layers of several sizes on a calibration text, fits the surrogate,
    reports how faithful it is, and every layer's contribution with its standard errors by source.

    Example: coterie values reference --budget 512
    """
    from coterie.cli.show import Display, show
    from coterie.pipeline.request import Request
    from coterie.report.record import Record

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
    )
    request.check(cutting=False)

    def run(progress: Display) -> Record:
        from coterie.pipeline.values import values

        return values(request, store=store, progress=progress).record

    show(run, as_json=as_json)
