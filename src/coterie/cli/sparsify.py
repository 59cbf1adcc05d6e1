"""`coterie sparsify MODEL --sparsity S --output DIR`."""

from typing import Annotated

import typer

from coterie.cli import options as o

Sparsity = Annotated[
    float | None,
    typer.Option(
        "--sparsity",
        metavar="S",
        help="Share of the weights in all linear maps of the layers that become zero, in [0, 1).",
    ),
]
Pattern = Annotated[
    str | None,
    typer.Option(
        "--pattern",
        metavar="N:M",
        help="Or: of every M neighbouring weights N stay, such as 2:4. Under a rule other than "
        "`uniform` each layer has an N of its own, N:M on average.",
    ),
]
Rule = Annotated[
    str,
    typer.Option(
        "--allocation",
        metavar="RULE",
        help="How the target is shared out: `sv-nup` (by each layer's Shapley value, "
        "arXiv:2505.01731), `sv-nup-window` (by sliding windows), `guided` (search from there), "
        "`mixed` (cut whole layers too), `owl` (arXiv:2310.05175), `ecoflap` (in the style of "
        "arXiv:2310.02998), `uniform`.",
    ),
]
PrunerName = Annotated[
    str,
    typer.Option(
        "--pruner",
        metavar="NAME",
        help="Which weights of a map go: `wanda`, `sparsegpt` (slower; the others make up for "
        "them), `magnitude`.",
    ),
]
Contributions = Annotated[
    str,
    typer.Option(
        "--contributions",
        metavar="HOW",
        help="Of `sv-nup`, `guided`, `mixed`: `exact`, `surrogate` (see --budget), `window`; "
        "`auto` is exact for up to 10 players, else by surrogate. The cost is stated first.",
    ),
]
Window = Annotated[
    int, typer.Option("--window", metavar="W", help="Layers in a sliding window, 1 to 16.")
]
Least = Annotated[
    float, typer.Option("--least", metavar="S", help="Least sparsity a layer may have.")
]
Most = Annotated[float, typer.Option("--most", metavar="S", help="Most sparsity a layer may have.")]
Stream = Annotated[
    bool,
    typer.Option(
        "--stream",
        help="For a model larger than memory: its layers are read from disk, played, pruned and "
        "judged one after the other; with `uniform`, `owl`, `sv-nup` and `sv-nup-window`.",
    ),
]
Players = Annotated[
    str,
    typer.Option(
        "--players",
        metavar="KIND",
        help="What has a sparsity of its own: `layer`, or `sublayer` (attention and feed-forward "
        "block each).",
    ),
]


def command(
    model: o.Model,
    output: o.Output,
    sparsity: Sparsity = None,
    pattern: Pattern = None,
    allocation: Rule = "sv-nup",
    pruner: PrunerName = "wanda",
    contributions: Contributions = "auto",
    window: Window = 5,
    least: Least = 0.0,
    most: Most = 0.95,
    overwrite: o.Overwrite = False,
    players: Players = "layer",
    revision: o.Revision = None,
    calibration: o.Calibration = None,
    held_out: o.HeldOut = None,
    sequences: o.Sequences = None,
    length: o.Length = None,
    bos: o.Bos = "auto",
    budget: o.Budget = None,
    lock: o.Lock = None,
    stream: Stream = False,
    state_memory: o.StateMemory = None,
    seed: o.Seed = 0,
    store: o.StoreFile = None,
    study: o.Study = None,
    device: o.Devices = "auto",
    dtype: o.Dtype = "auto",
    trust_remote_code: o.TrustRemoteCode = False,
    as_json: o.AsJson = False,
    dry_run: o.DryRun = False,
) -> None:
    """Make weights zero inside the layers, more where a layer contributes less, and prove the cost.

    Writes an ordinary checkpoint of the same size with zeros in place. Unstructured zeros save NO
    time on ordinary hardware. What profits: 2:4 patterns on NVIDIA's sparse tensor cores (Ampere
    and later), any zeros in CPU engines for sparse weights such as DeepSparse, and compressed
    storage. To save time and memory anywhere, cut layers: coterie prune.

    Observes coalitions of layers on a calibration text, turns contributions into sparsities,
    prunes layer by layer, reloads and counts, and judges on held-out text. Stopped at any moment,
    the same command goes on with everything observed so far; --dry-run states the cost first.

    Examples: coterie sparsify reference --sparsity 0.6 --output sparse;
    coterie sparsify reference --pattern 2:4 --pruner sparsegpt --allocation uniform --output s24
    """
    from coterie.cli.show import Display, show_with
    from coterie.pipeline.request import Request
    from coterie.pipeline.sparsify_request import SparsifyRequest
    from coterie.report.sparsity import SparsityRecord, print_sparsity
    from coterie.report.sparsity_plan import SparsityPlan, print_sparsity_plan

    base = Request(
        model=model,
        players=players,
        revision=revision,
        calibration=calibration,
        held_out=held_out,
        sequences=sequences,
        length=length,
        bos=bos,
        budget=budget,
        lock=o.parse_layers(lock),
        seed=seed,
        device=device,
        dtype=dtype,
        trust_remote_code=trust_remote_code,
        study=study,
        stream=stream,
        state_memory=o.parse_bytes(state_memory),
    )
    request = SparsifyRequest(
        base, sparsity, pattern, allocation, pruner, contributions, window, least, most
    )
    request.check()

    if dry_run:

        def plan(progress: Display) -> SparsityPlan:
            from coterie.pipeline.sparsify_plan import sparsify_plan

            return sparsify_plan(
                request, output=output, overwrite=overwrite, store=store, progress=progress
            )

        return show_with(print_sparsity_plan, plan, as_json=as_json)

    def run(progress: Display) -> SparsityRecord:
        from coterie.pipeline.sparsify import sparsify

        return sparsify(request, output=output, overwrite=overwrite, store=store, progress=progress)

    return show_with(print_sparsity, run, as_json=as_json)
