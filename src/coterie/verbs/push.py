"""`push`: upload a checkpoint to the Hugging Face Hub, with what is known of it in its card."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from coterie.models.files.carried import carried_files
from coterie.models.files.sources import Source, resolve
from coterie.plain import parsed
from coterie.report.schema.evaluate import Judgement, ModelRow
from coterie.report.schema.record import CheckpointRecord
from coterie.verbs.checkpoint_requests import PushRequest
from coterie.verbs.outputs.publishable import PushError, check_publishable
from coterie.verbs.outputs.records import RECORD, read_record
from coterie.verbs.shared.entry import public

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

CARD = "README.md"
_FIGURES = ("*.png", "*.svg")


@dataclass(frozen=True)
class Upload:
    """What goes where.

    Attributes:
        repo: ``owner/name`` on the Hub.
        private: Whether only its owner sees it.
        files: Names with their sizes in bytes; the card's is that of the card below.
        card: The model card as it is uploaded.
        url: Where it is; None if nothing was uploaded.
    """

    repo: str
    private: bool
    files: dict[str, int]
    card: str
    url: str | None

    def as_json(self) -> dict[str, object]:
        """The same as plain JSON."""
        return asdict(self)


@public
def push(request: PushRequest, *, dry_run: bool = False) -> Upload:
    """Upload a checkpoint in one commit; nothing in the folder is changed.

    >>> from coterie import CutRequest, PushRequest, cut, push
    >>> done = cut(CutRequest("reference", layers=(3, 7)), output=folder / "small")
    >>> "model.safetensors" in push(PushRequest(folder / "small", "me/small"), dry_run=True).files
    True

    Args:
        request: Which checkpoint, and where to.
        dry_run: Say what would be uploaded, and ask nothing of the Hub.

    Raises:
        PushError: not a checkpoint, a bad name, a path of this machine in a file, results of other
            weights, or a refusal of the Hub.
    """
    request.check()
    folder, repo, private = Path(request.folder), request.repository, request.private
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", repo):
        raise PushError(f"'{repo}' is no repository of the Hub: write owner/name")
    if not folder.is_dir():
        raise PushError(f"there is no folder '{folder.name}': name that of a checkpoint")
    source = resolve(str(folder), trust_remote_code=request.trust_remote_code)
    # Its files are told whole, whatever folder the user stands in.
    files, folder = _wanted(source), source.folder
    # Every file is checked before the first byte is sent.
    for file in files:
        check_publishable(file, folder)
    judged = [_row_of(source, path) for path in request.results]
    card = _card(repo, folder, read_record(folder), judged)
    sizes = {str(file.relative_to(folder)): file.stat().st_size for file in files}
    sizes = dict(sorted({**sizes, CARD: len(card.encode())}.items()))
    url = None if dry_run else _upload(repo, folder, list(sizes), card, private=private)
    return Upload(repo, private, sizes, card, url)


def _wanted(source: Source) -> list[Path]:
    """The files of a checkpoint, its card, its record and its figures; nothing else in the folder.

    Raises:
        PushError: one of them is a link to a file outside of the folder.
    """
    folder, weights = source.folder, source.weights
    beside = [file for file in folder.iterdir() if any(fnmatch(file.name, p) for p in _FIGURES)]
    named = ["config.json", CARD, RECORD, *carried_files(folder)]
    files = {*weights.files, *(folder / name for name in named), *beside}
    files |= set() if weights.index is None else {weights.index}
    wanted = sorted(file for file in files if file.is_file())
    for file in wanted:
        if not file.resolve().is_relative_to(folder.resolve()):
            raise PushError(
                f"{file.name} is a link to a file outside of '{folder.name}': put the file itself"
                " there, then push"
            )
    return wanted


def _row_of(source: Source, path: Path) -> ModelRow:
    """What a report of `evaluate` says of these very weights."""
    try:
        rows = Judgement.from_json(parsed(path.read_text(encoding="utf-8"))).models
    except (OSError, ValueError, TypeError) as error:
        raise PushError(
            f"{path.name} is no report of an evaluation: make one with `coterie evaluate DIR "
            "--json > FILE`"
        ) from error
    for row in rows:
        # Results belong to weights, not to names: a checkpoint may have been made anew.
        if row.fingerprint == source.fingerprint():
            return row
    judged = ", ".join(row.name for row in rows) or "nothing"
    raise PushError(
        f"{path.name} judges {judged} with other weights than '{source.name}' has: evaluate this "
        "checkpoint again"
    )


def _card(
    repo: str, folder: Path, record: CheckpointRecord | None, judged: Sequence[ModelRow]
) -> str:
    """The checkpoint's own card, or a plain one, with the results in its metadata."""
    # Imported when used: the other verbs do without this library.
    from huggingface_hub import ModelCard, ModelCardData

    path = folder / CARD
    if path.is_file():
        card = ModelCard(path.read_text(encoding="utf-8"))
    else:
        card = ModelCard(
            "---\nlibrary_name: transformers\npipeline_tag: text-generation\n"
            f"tags:\n- coterie\n- pruned\n---\n\n# {repo.partition('/')[2]}\n\n"
            "Layers were cut from this model with Coterie.\n"
        )
    results = [*_of_record(record), *(result for row in judged for result in _of_row(row))]
    if results:
        data = ModelCardData(**card.data.to_dict())
        data.model_name, data.eval_results = repo.partition("/")[2], results
        card.data = data
    return str(card)


def _of_record(record: CheckpointRecord | None) -> list["EvalResult"]:
    """The held-out perplexity of the very weights: measured last, by whatever verb wrote them."""
    if record is None:
        return []
    text = record.held_out
    after = None if record.verdict is None else record.verdict.after
    if record.after:
        text, after = record.after[-1].held_out, record.after[-1].after
    if text is None or after is None:
        return []
    name = f"{text.description}, {text.sequences} × {text.length} tokens"
    return [_result(name, "perplexity", after.perplexity, after.error, {})]


def _of_row(row: ModelRow) -> list["EvalResult"]:
    found = []
    for text in row.perplexity:
        name = f"{text.text}, {text.sequences} × {text.length} tokens, running text"
        part = text.perplexity
        if part.mean is not None:
            found.append(_result(name, "perplexity", part.mean, part.error, {}))
    for task in row.tasks:
        for metric, part in task.metrics.items():
            if part.mean is not None:
                settings = {"items": task.items, **task.provenance}
                found.append(_result(task.task, metric, part.mean, part.error, settings))
    return found


def _result(
    dataset: str, metric: str, value: float, error: float | None, settings: Mapping[str, object]
) -> "EvalResult":
    from huggingface_hub import EvalResult

    return EvalResult(
        task_type="text-generation",
        # The whole name: results of one type are folded into one under the first one's name.
        dataset_type=re.sub(r"[^\w.-]+", "-", dataset).strip("-").lower(),
        dataset_name=dataset,
        metric_type=metric,
        metric_value=value,
        metric_args={"standard_error": error, **settings},
    )


def _upload(repo: str, folder: Path, names: list[str], card: str, *, private: bool) -> str:
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    api = HfApi()
    operations = [
        CommitOperationAdd(name, card.encode() if name == CARD else str(folder / name))
        for name in names
    ]
    try:
        url = api.create_repo(repo, private=private or None, exist_ok=True)
        # `exist_ok` takes a public repository as it is: it would publish what should be private.
        if private and not api.model_info(repo).private:
            raise PushError(f"'{repo}' is there and public: name another, or leave out --private")
        api.create_commit(repo, operations, commit_message="Upload a cut checkpoint")
    except PushError:
        raise
    except LocalTokenNotFoundError as error:
        raise PushError("the Hub does not know you: log in with `hf auth login`") from error
    except HfHubHTTPError as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]
        raise PushError(
            f"the Hub refuses '{repo}' ({reason}): log in with `hf auth login` as one who may write"
            " there"
        ) from error
    except Exception as error:  # whatever the HTTP library raises when nothing answers
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise PushError(f"the Hub cannot be reached ({reason}): nothing was published") from error
    return str(url)
