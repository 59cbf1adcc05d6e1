"""`coterie cut MODEL --layers 3,7-9 --output DIR`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from coterie.cli import options as o
from coterie.errors import CutError

Layers = Annotated[
    str | None,
    typer.Option("--layers", metavar="L", help="Layers to CUT, 0-based, such as 3,7-9."),
]
ListFile = Annotated[
    Path | None,
    typer.Option(
        "--list",
        metavar="FILE",
        help="Or: a file that lists them: of EvoPress, SLEB, ShortGPT, or a coterie.json.",
    ),
]
Mergekit = Annotated[
    Path | None,
    typer.Option(
        "--mergekit", metavar="FILE", help="Also write the cut as a mergekit passthrough YAML."
    ),
]


def command(
    model: o.Model,
    output: o.Output,
    layers: Layers = None,
    list_file: ListFile = None,
    overwrite: o.Overwrite = False,
    mergekit: Mergekit = None,
    revision: o.Revision = None,
    trust_remote_code: o.TrustRemoteCode = False,
    as_json: o.AsJson = False,
) -> None:
    """Cut named layers out of a checkpoint, shard by shard, and check the result.

    Examples: coterie cut reference --layers 3,7-9 --output out;
    coterie cut Qwen/Qwen3-0.6B --list layer_drop_config.txt --output small
    """
    if (layers is None) == (list_file is None):
        raise CutError("name the layers to cut by either --layers 3,7-9 or --list FILE")
    from transformers.utils import logging

    from coterie.verbs.cut import cut

    logging.disable_progress_bar()
    done = cut(
        model,
        o.parse_layers(layers) if list_file is None else list_file,
        output=output,
        overwrite=overwrite,
        revision=revision,
        trust_remote_code=trust_remote_code,
    )
    if mergekit is not None:
        from coterie.models.cutting.lists import passthrough_yaml

        mergekit.write_text(passthrough_yaml(model, done.kept, "bfloat16"), encoding="utf-8")
    if as_json:
        print(json.dumps(done.as_record(), indent=2, ensure_ascii=False))
        return
    gone = ", ".join(str(layer) for layer in done.layers)
    print(f"{output.name}: {len(done.kept)} layers kept, {gone} cut,")
    print(f"  {done.written.n_parameters:,} parameters, {done.written.n_bytes:,} bytes")
    if done.verification is None:
        print("  checked in structure only: the model does not fit into memory twice over")
    else:
        gap = done.verification.max_logit_difference
        print(f"  reloaded: logits within {gap:.1e} of the model with those layers skipped")
