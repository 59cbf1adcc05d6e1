"""`coterie push DIR REPO`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from coterie.cli import options as o

Folder = Annotated[
    Path, typer.Argument(metavar="DIR", help="Folder of the checkpoint.", show_default=False)
]
Repository = Annotated[
    str,
    typer.Argument(metavar="REPO", help="owner/name on the Hugging Face Hub.", show_default=False),
]
Private = Annotated[bool, typer.Option("--private", help="Only you see it.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show files and card, and ask nothing of the Hub.")
]
Results = Annotated[
    list[Path] | None,
    typer.Option(
        "--results",
        metavar="FILE",
        help="A report of `coterie evaluate DIR --json`, for the card; may be given again.",
    ),
]


def command(
    folder: Folder,
    repository: Repository,
    private: Private = False,
    dry_run: DryRun = False,
    results: Results = None,
    trust_remote_code: o.TrustRemoteCode = False,
    as_json: o.AsJson = False,
) -> None:
    """Upload a checkpoint to the Hugging Face Hub, with its results in the card's metadata.

    Uploads safetensors, config, tokenizer, card and record in one commit; never a pickle or a
    hidden file, and no file that names a folder of this machine. Held-out perplexity comes from
    the run that cut it, other results from --results.

    Examples: coterie push out me/small-model --dry-run;
    coterie push out me/small-model --private --results scores.json
    """
    from coterie.report.words import size
    from coterie.verbs.push import push

    done = push(
        folder,
        repository,
        private=private,
        dry_run=dry_run,
        results=tuple(results or ()),
        trust_remote_code=trust_remote_code,
    )
    if as_json:
        print(json.dumps(done.as_record(), indent=2, ensure_ascii=False))
        return
    seen = "private" if private else "public"
    told = f"would be uploaded to {repository} ({seen})" if dry_run else f"uploaded to {done.url}"
    print(f"{len(done.files)} files, {size(sum(done.files.values()))}, {told}")
    for name, n_bytes in done.files.items():
        print(f"  {name}  {size(n_bytes)}")
    if dry_run:
        print()
        print(done.card)
