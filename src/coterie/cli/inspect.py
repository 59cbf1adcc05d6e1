"""`coterie inspect MODEL`."""

import json
from typing import Annotated

import typer

from coterie.cli import options as o

Layers = Annotated[
    str | None,
    typer.Option("--layers", metavar="L", help="Describe this cut: layers to CUT, such as 3,7-9."),
]


def command(
    model: o.Model,
    layers: Layers = None,
    revision: o.Revision = None,
    trust_remote_code: o.TrustRemoteCode = False,
    as_json: o.AsJson = False,
) -> None:
    """Show a model's layers, which must stay and why, and what a cut would change.

    Reads only the config; no weight is loaded.

    Examples: coterie inspect reference;
    coterie inspect Qwen/Qwen3-0.6B --layers 3,7-9
    """
    from coterie.verbs.inspect import as_record, inspect

    found = inspect(
        model,
        cut=o.parse_layers(layers),
        revision=revision,
        trust_remote_code=trust_remote_code,
    )
    if as_json:
        print(json.dumps(as_record(found), indent=2, ensure_ascii=False, default=str))
        return
    print(f"{model}: {found.architecture}, {found.n_parameters:,} parameters")
    print(f"{len(found.players)} layers at {found.path}, {len(found.unlocked)} may be cut")
    print()
    for player in found.players:
        kind = f"  {player.kind}" if player.kind else ""
        lock = f"  locked: {player.lock}" if player.lock else ""
        size = f"{player.n_parameters:>14,}"
        print(f"{player.number:>4}  {player.layer}  {size} parameters{kind}{lock}")
    if layers:
        print()
        print(f"without {layers}: {found.n_parameters_after:,} parameters; config.json changes:")
        for name, value in found.changes.items():
            print(f"  {name}: {value}")
