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
        help="Of `sv-nup`, `guided`, `mixed`: `exact`, `surrogate` (see --budget), `window` (see "
        "--window); `auto` is `exact` for up to 10 layers (or blocks) that are not locked, else "
        "`surrogate`.",
    ),
]
Sequences = Annotated[
    int | None,
    typer.Option(
        "--sequences",
        metavar="N",
        help="Calibration sequences that contributions are measured on; allocations are judged on "
        "these and further ones, 32 at least. Default: 10.",
    ),
]
PruningSequences = Annotated[
    int | None,
    typer.Option(
        "--pruning-sequences",
        metavar="N",
        help="Sequences of the calibration text that `wanda`, `sparsegpt` and `owl` measure on, "
        "those of --sequences among them. Default: 128; for `sparsegpt` ten tokens for every input "
        "of the widest map where that is more, up to 2,048 sequences; all there are where the text "
        "has fewer.",
    ),
]
Budget = Annotated[
    int | None,
    typer.Option(
        "--budget",
        metavar="N",
        help="Coalitions that contributions by `surrogate` are fitted to: at least 4 for every "
        "layer (or block) that is not locked, and 2. Default: 32 for each. `exact` and `window` "
        "ask what they must.",
    ),
]
Lock = Annotated[
    str | None,
    typer.Option(
        "--lock",
        metavar="LIST",
        help="Layers that no coalition leaves out and `mixed` never cuts, 0-based: 0,1,31. They "
        "are pruned all the same; where contributions decide, as the most important ones.",
    ),
]
StateMemory = Annotated[
    str | None,
    typer.Option(
        "--state-memory",
        metavar="BYTES",
        help="Memory that the states of coalitions and allocations may take that are walked "
        "together: 500M, 8G. Default: half of what is free. What pruning takes is beside it: see "
        "--dry-run.",
    ),
]
Window = Annotated[
    int, typer.Option("--window", metavar="W", help="Layers in a sliding window, 1 to 16.")
]
Least = Annotated[
    float, typer.Option("--least", metavar="S", help="Least sparsity a layer may have.")
]
Most = Annotated[float, typer.Option("--most", metavar="S", help="Most sparsity a layer may have.")]
Dtype = Annotated[
    str,
    typer.Option(
        "--dtype",
        help="In which coalitions are observed and layers pruned and judged: auto, float32, "
        "bfloat16. The checkpoint keeps its own, and a weight no pruner changes all its bits.",
    ),
]
Stream = Annotated[
    bool,
    typer.Option(
        "--stream",
        help="For a model larger than memory: its layers are read from disk, played, pruned and "
        "judged one after the other; with `uniform`, `owl`, `sv-nup` and `sv-nup-window`. Not for "
        "most mixtures of experts (Mixtral, Qwen MoE, DeepSeek): transformers merges their experts "
        "as it loads them.",
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
    sequences: Sequences = None,
    pruning_sequences: PruningSequences = None,
    length: o.Length = None,
    bos: o.Bos = "auto",
    budget: Budget = None,
    lock: Lock = None,
    stream: Stream = False,
    state_memory: StateMemory = None,
    seed: o.Seed = 0,
    store: o.StoreFile = None,
    study: o.Study = None,
    device: o.Devices = "auto",
    dtype: Dtype = "auto",
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
    the same command goes on with the coalitions observed so far; allocations are judged and layers
    pruned again. --dry-run states the cost first.

    Examples: coterie sparsify reference --sparsity 0.6 --output sparse;
    coterie sparsify reference --pattern 2:4 --pruner sparsegpt --allocation uniform --output s24
    """
    from coterie.cli.show import Display, show_with
    from coterie.report.schema.sparsify import SparsityRecord
    from coterie.report.schema.sparsify_plan import SparsityPlan
    from coterie.report.terminal.sparsify import print_sparsity
    from coterie.report.terminal.sparsify_plan import print_sparsity_plan
    from coterie.verbs.shared.request import Request
    from coterie.verbs.sparsify.request import SparsifyRequest

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
        base,
        sparsity,
        pattern,
        allocation,
        pruner,
        contributions,
        window,
        least,
        most,
        pruning_sequences,
    )
    request.check()

    if dry_run:

        def plan(progress: Display) -> SparsityPlan:
            from coterie.verbs.sparsify.plan import sparsify_plan

            return sparsify_plan(
                request, output=output, overwrite=overwrite, store=store, progress=progress
            )

        return show_with(print_sparsity_plan, plan, as_json=as_json)

    def run(progress: Display) -> SparsityRecord:
        from coterie.verbs.sparsify.run import sparsify

        return sparsify(request, output=output, overwrite=overwrite, store=store, progress=progress)

    return show_with(print_sparsity, run, as_json=as_json)
