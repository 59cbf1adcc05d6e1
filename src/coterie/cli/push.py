"""`coterie push DIR REPO`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from coterie.cli.show import show
from coterie.verbs.checkpoint_requests import PushRequest
from coterie.verbs.options.run import DryRun, Report

if TYPE_CHECKING:
    from coterie.verbs.push import Upload


@dataclass(frozen=True, kw_only=True)
class PushRun(Report, DryRun):
    """Whether `push` uploads."""

    # The same flag means something else here: no work is stated, the upload is.
    HELP: ClassVar = {"dry_run": "Show files and card, and ask nothing of the Hub."}


def command(request: PushRequest, run: PushRun) -> None:
    """Upload a checkpoint to the Hugging Face Hub, with its results in the card's metadata.

    Uploads safetensors, config, tokenizer, card and record in one commit; never a pickle or a
    hidden file, and no file that names a folder of this machine. Held-out perplexity comes from
    the run that cut it, other results from --results.

    Examples: coterie push out me/small-model --dry-run;
    coterie push out me/small-model --private --results scores.json
    """
    from coterie.verbs.push import push

    def print_upload(done: "Upload") -> None:
        _print(done, dry_run=run.dry_run)

    show(lambda _: push(request, dry_run=run.dry_run), print_upload, run)


def _print(done: "Upload", *, dry_run: bool) -> None:
    from coterie.report.words import size

    seen = "private" if done.private else "public"
    # The same list serves both: what would go, and what went.
    told = f"would be uploaded to {done.repo} ({seen})" if dry_run else f"uploaded to {done.url}"
    print(f"{len(done.files)} files, {size(sum(done.files.values()))}, {told}")
    for name, n_bytes in done.files.items():
        print(f"  {name}  {size(n_bytes)}")
    if dry_run:
        print()
        print(done.card)
