"""Documents of a data set on the Hugging Face Hub, streamed: only as many as are asked for."""

import itertools
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from coterie.errors import TextError
from coterie.texts.rows import NamedText, RowReader

SHUFFLE_BUFFER = 1_000
"""Rows held while streaming in random order; the order of the shards is shuffled as well."""

_SHAPE = re.compile(r"[\w.-]+(/[\w.-]+)?(:[^:]*){0,3}")
_ARTICLE = re.compile(r" = [^=\n]+ = \s*")
_WAY_OUT = "offline, a local file or folder of texts works, and so does 'stdlib'"


@dataclass(frozen=True)
class HubText:
    """Where on the Hub a text is: ``name[:config[:split[:column]]]``, empty parts left open."""

    name: str
    config: str | None = None
    split: str = "train"
    column: str | None = None

    @property
    def is_articles_by_line(self) -> bool:
        """WikiText is stored a line a row: a document is what stands between two titles."""
        return self.name.rpartition("/")[2].lower().startswith("wikitext")


def parse_hub(spec: str) -> HubText | None:
    """The data set a spec names, or None where it cannot be the name of one.

    >>> parse_hub("allenai/c4:en:validation")
    HubText(name='allenai/c4', config='en', split='validation', column=None)
    """
    if not _SHAPE.fullmatch(spec):
        return None
    name, config, split, column = (spec.split(":") + [""] * 3)[:4]
    return HubText(name, config or None, split or "train", column or None)


def find_revision(where: HubText) -> str | None:
    """The commit the data set stands at, asked of the Hub; None in offline mode.

    Raises:
        TextError: the Hub cannot be reached, or has no such data set.
    """
    if _offline():
        return None
    import huggingface_hub

    try:
        return huggingface_hub.HfApi().dataset_info(where.name, timeout=10).sha
    except Exception as error:  # which kinds there are depends on the HTTP library's version
        raise TextError(_explain(where, error)) from error


def read_hub(
    where: HubText, revision: str | None, rows: RowReader, *, seed: int
) -> Iterator[NamedText]:
    """Stream the documents in an order that the seed decides; WikiText's articles in their own.

    Args:
        where: The data set.
        revision: The commit to read; None is the newest.
        rows: Turns a row into a text.
        seed: Decides the order.

    Raises:
        TextError: `datasets` is not installed; the Hub cannot be reached; it has no such config,
            split or column.
    """
    stream = _rows(where, revision, seed)
    if where.is_articles_by_line:
        lines = (rows.text(row, f"'{where.name}'") for row in stream)
        yield from _articles(line for line in lines if line is not None)
        return
    for place, row in enumerate(stream):
        label = f"{where.name}:{where.split}[{place}]"
        yield from rows.named(label, row, f"'{where.name}', row {place}")


def _rows(where: HubText, revision: str | None, seed: int) -> Iterator[Mapping[str, object]]:
    try:
        import datasets
    except ImportError as error:
        raise TextError(
            f"data set '{where.name}' needs the library `datasets`: pip install datasets; "
            "a local file of that name was not found"
        ) from error
    # Offline, a data set can only come whole out of the local cache; a stream never does.
    streaming = not _offline()
    try:
        stream = datasets.load_dataset(
            where.name,
            where.config,
            split=where.split,
            revision=revision,
            streaming=streaming,
        )
        if not streaming:
            stream = stream.to_iterable_dataset()
        # WikiText's lines are joined into articles, so their order must stay.
        if not where.is_articles_by_line:
            stream = stream.shuffle(seed=seed, buffer_size=SHUFFLE_BUFFER)
        yield from stream
    except Exception as error:  # a remote library raises anything; all of it is explained
        raise TextError(_explain(where, error)) from error


def _articles(lines: Iterator[str]) -> Iterator[NamedText]:
    article: list[str] = []
    places = itertools.count()
    for line in lines:
        if _ARTICLE.fullmatch(line) and any(part.strip() for part in article):
            yield f"article {next(places)}", "".join(article)
            article = []
        article.append(line)
    if article:
        yield f"article {next(places)}", "".join(article)


def _explain(where: HubText, error: Exception) -> str:
    """One line: which name, what went wrong, what to do."""
    name, kinds = where.name, {kind.__name__ for kind in type(error).__mro__}
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    if "GatedRepoError" in kinds or "gated" in reason.lower():
        return (
            f"data set '{name}' is gated: accept its terms on its page, then log in with "
            "`hf auth login`"
        )
    if "RepositoryNotFoundError" in kinds or "DatasetNotFoundError" in kinds:
        return (
            f"'{name}' is neither a file here nor a data set on the Hub: check the spelling "
            "(a private one needs `hf auth login`)"
        )
    if _offline() or kinds & _NETWORK:
        return (
            f"'{name}' is not a file here, and as a data set it needs the Hugging Face Hub, which "
            f"cannot be reached: {_WAY_OUT}"
        )
    return f"data set '{name}' cannot be read: {reason}"


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "ON", "YES", "TRUE")


_NETWORK = {
    "ConnectionError", "ConnectTimeout", "ConnectError", "NetworkError", "TimeoutException",
    "Timeout", "TimeoutError", "OfflineModeIsEnabled", "LocalEntryNotFoundError",
}  # fmt: skip
