"""The options several verbs share, each taught once."""

import re
from pathlib import Path
from typing import Annotated

import typer

from coterie.errors import UserError
from coterie.game.estimation.estimators import ESTIMATORS
from coterie.game.search.methods import SEARCH_METHODS

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="Hugging Face id, local folder, or `reference`: the small model that ships inside.",
        show_default=False,
    ),
]
Remove = Annotated[
    int | None, typer.Option("--remove", metavar="N", help="Layers to cut (or see --players).")
]
SizeRemove = Annotated[
    int | None,
    typer.Option(
        "--remove", metavar="N", help="Check the surrogate at the size that cutting N would leave."
    ),
]
Keep = Annotated[int | None, typer.Option("--keep", metavar="N", help="Or: layers to keep.")]
Ratio = Annotated[
    float | None,
    typer.Option(
        "--ratio",
        metavar="R",
        help="Or: fraction of layers REMOVED, rounded half up, at least 1.",
    ),
]
Players = Annotated[
    str,
    typer.Option(
        "--players",
        metavar="KIND",
        help="What may be cut: `layer`, its `attention` or `mlp` (feed-forward) block, or "
        "`sublayer`: either. Without single blocks only Llama and Mistral can be saved, in the "
        "block format of Nemotron-NAS: transformers loads it with trust_remote_code=True; "
        "vLLM and llama.cpp know the format, for feed-forward widths that are a multiple of 256.",
    ),
]
StudiedPlayers = Annotated[
    str,
    typer.Option(
        "--players",
        metavar="KIND",
        help="What contributes: `layer`, its `attention` or `mlp` (feed-forward) block, or "
        "`sublayer`: either. Any family of residual blocks; to cut them, see `prune --help`.",
    ),
]
Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the checkpoint.")
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace DIR if it is there and not empty.")
]
Method = Annotated[
    str,
    typer.Option(
        "--method",
        help="How the coalition is chosen: "
        + ", ".join(f"`{method.name}` ({method.summary})" for method in SEARCH_METHODS.values())
        + ".",
    ),
]
Revision = Annotated[
    str | None, typer.Option("--revision", help="Branch, tag or commit of a Hub model.")
]
Calibration = Annotated[
    str | None,
    typer.Option(
        "--calibration",
        metavar="TEXT",
        help="Text that decides: a .txt, .jsonl or .parquet FILE[:COLUMN], a Hub data set "
        "`name[:config[:split[:column]]]`, a mixture `a=0.7,b=0.3`, or `stdlib`. Default: C4 for "
        "Hub models, `stdlib` for `reference`.",
    ),
]
HeldOut = Annotated[
    str | None,
    typer.Option(
        "--held-out",
        metavar="TEXT",
        help="Text that judges, never used to choose. Default: whole documents of your "
        "calibration file set aside; WikiText-2 test beside C4; the other half of `stdlib`.",
    ),
]
Sequences = Annotated[
    int | None,
    typer.Option(
        "--sequences",
        metavar="N",
        help="Calibration sequences. Default: 10 for the paper's method; 32 for the others, which "
        "decide between their finalists on as many more, of other documents.",
    ),
]
Length = Annotated[
    int | None,
    typer.Option(
        "--length",
        metavar="TOKENS",
        help="Tokens of every sequence. Default: 128, or the model's context where that is "
        "shorter.",
    ),
]
Bos = Annotated[
    str,
    typer.Option(
        "--bos", help="Begin every sequence with BOS: `auto` (as the tokenizer), `always`, `never`."
    ),
]
Budget = Annotated[
    int | None,
    typer.Option(
        "--budget",
        metavar="N",
        help="Most distinct coalitions to evaluate. Default: the published design for `paper`; "
        "what a tenth of its layer-tokens pays for otherwise.",
    ),
]
Front = Annotated[
    bool,
    typer.Option(
        "--front", help="The best coalition of every size, one player removed to half of them."
    ),
]
Repeats = Annotated[
    int,
    typer.Option(
        "--repeats",
        metavar="R",
        help="Run --method R times by other seeds and R times on other texts: how much of the "
        "ranking and of the cut comes back. Needs an amount such as --remove.",
    ),
]
Estimator = Annotated[
    str,
    typer.Option(
        "--estimator",
        help="How contributions are estimated, from the true game in nats unless said otherwise: "
        + ", ".join(f"`{one.name}` ({one.summary})" for one in ESTIMATORS.values())
        + ".",
    ),
]
Surrogate = Annotated[
    str,
    typer.Option(
        "--surrogate",
        help="For --estimator paper: `paper` (network), `pairwise`, `ensemble`, `explained`, or "
        "`auto`: the highest held-out fidelity.",
    ),
]
Interactions = Annotated[
    bool,
    typer.Option("--interactions", help="Which players stand in for each other, or need another."),
]
StateMemory = Annotated[
    str | None,
    typer.Option(
        "--state-memory",
        metavar="BYTES",
        help="Memory that live states may take: 500M, 8G. Default: half of what is free.",
    ),
]
Stream = Annotated[
    bool,
    typer.Option(
        "--stream",
        help="For a model larger than memory: read its layers from disk, each once for all "
        "coalitions of a question; the model is never whole, and the cut one is proved the same "
        "way. Methods that ask in many small questions (`greedy`, `guided`) read all layers for "
        "each; `--method paper` asks at once. What a pass observes is kept when it ends. Not for "
        "most mixtures of experts (Mixtral, Qwen MoE, DeepSeek): transformers merges their experts "
        "as it loads them.",
    ),
]
TargetParams = Annotated[
    float | None,
    typer.Option(
        "--target-params",
        metavar="N",
        help="Or: cut as little as leaves at most N parameters, or this fraction of them (0.75).",
    ),
]
TargetBytes = Annotated[
    float | None,
    typer.Option("--target-bytes", metavar="N", help="Or: the same for bytes of the weights."),
]
TargetSpeedup = Annotated[
    float | None,
    typer.Option(
        "--target-speedup",
        metavar="X",
        help="Or: as little as makes a forward pass X times faster; every layer is timed once.",
    ),
]
Time = Annotated[
    str | None,
    typer.Option("--time", metavar="T", help="Most time to spend observing: 90s, 20m, 2h."),
]
Lock = Annotated[
    str | None, typer.Option("--lock", metavar="LIST", help="Layers that stay, 0-based: 0,1,31.")
]
Seed = Annotated[int, typer.Option("--seed", help="One seed decides every draw.")]
StoreFile = Annotated[
    Path | None,
    typer.Option(
        "--store",
        metavar="FILE",
        help="SQLite file of observations; default: $COTERIE_STORE, or the user's cache folder.",
    ),
]
Study = Annotated[
    str | None,
    typer.Option("--study", metavar="NAME", help="Name a study, to be resumed as it was begun."),
]
Limit = Annotated[
    int | None, typer.Option("--limit", metavar="N", help="Only the first N items of each task.")
]
Device = Annotated[str, typer.Option("--device", help="auto, cuda, mps or cpu.")]
Devices = Annotated[
    str,
    typer.Option(
        "--device",
        help="auto, cuda, mps or cpu; or several, cuda:0,cuda:1 or cuda:all, that share the "
        "coalitions out: each holds the whole model, its parameters × bytes of --dtype.",
    ),
]
Dtype = Annotated[
    str,
    typer.Option(
        "--dtype",
        help="Of the search only: auto, float32, bfloat16. The checkpoint keeps its own.",
    ),
]
TrustRemoteCode = Annotated[
    bool,
    typer.Option("--trust-remote-code", help="Run the Python files that come with the model."),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print the report as JSON on stdout; progress on stderr.")
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="State coalitions, work, memory, disk and time, and stop."),
]


def parse_names(text: str | None) -> tuple[str, ...]:
    """Names from `a,b`; nothing from nothing."""
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def parse_time(text: str | None) -> float | None:
    """Seconds from `90`, `90s`, `20m` or `2h`.

    Raises:
        UserError: it is none of these.
    """
    if text is None:
        return None
    unit = {"s": 1.0, "m": 60.0, "h": 3600.0}.get(text[-1:])
    number = text[:-1] if unit else text
    try:
        return float(number) * (unit or 1.0)
    except ValueError:
        raise UserError(f"--time {text} is not a time: write 90s, 20m or 2h") from None


def parse_bytes(text: str | None) -> int | None:
    """Bytes from `500000000`, `500M` or `8G` (decimal).

    Raises:
        UserError: it is none of these.
    """
    if text is None:
        return None
    unit = {"K": 1e3, "M": 1e6, "G": 1e9}.get(text[-1:].upper())
    try:
        return int(float(text[:-1] if unit else text) * (unit or 1))
    except (ValueError, OverflowError):
        raise UserError(f"--state-memory {text} is no number of bytes: write 500M or 8G") from None


def parse_layers(text: str | None) -> tuple[int, ...]:
    """Layer numbers from `3,7-9` (0-based, both ends included), ascending.

    Raises:
        UserError: a part is not a number or a range upwards, or a layer is named twice.
    """
    layers: set[int] = set()
    for part in (text or "").split(",") if text else ():
        found = re.fullmatch(r"([0-9]{1,4})(?:-([0-9]{1,4}))?", part.strip())
        named = range(int(found[1]), int(found[2] or found[1]) + 1) if found else range(0)
        if not named:
            raise UserError(f"{part.strip()!r} in {text!r} is no layer: write 3,7-9 (0-based)")
        if repeated := layers.intersection(named):
            raise UserError(f"layer {min(repeated)} is named twice in {text!r}: name each once")
        layers.update(named)
    return tuple(sorted(layers))
