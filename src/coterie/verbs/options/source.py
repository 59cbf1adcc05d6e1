"""Which model: by name, by folder, or several side by side."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from coterie.errors import UserError
from coterie.verbs.options.declare import Option, Options


@dataclass(frozen=True, kw_only=True)
class Model(Options):
    """One model."""

    model: Annotated[
        str,
        Option(
            "MODEL",
            "MODEL",
            "Hugging Face id, local folder, or `reference`: the small model that ships inside.",
            path=True,
        ),
        # The one field that may be given by position: coterie.prune(PruneRequest("reference")).
    ] = field(kw_only=False)


@dataclass(frozen=True, kw_only=True)
class Models(Options):
    """Several models; the others are compared with the first."""

    models: Annotated[
        tuple[str, ...],
        Option(
            "MODEL...",
            "MODEL...",
            "Hugging Face ids, local folders or `reference`; the first is compared with.",
            path=True,
        ),
    ] = field(kw_only=False)


@dataclass(frozen=True, kw_only=True)
class Folder(Options):
    """The folder of a checkpoint."""

    folder: Annotated[Path, Option("DIR", "DIR", "Folder of the checkpoint.")] = field(
        kw_only=False
    )


@dataclass(frozen=True, kw_only=True)
class Revision(Options):
    """Which state of a model on the Hub."""

    revision: Annotated[
        str | None, Option("--revision", "NAME", "Branch, tag or commit of a Hub model.")
    ] = None


@dataclass(frozen=True, kw_only=True)
class Trust(Options):
    """Whether Python files that come with a model may run."""

    trust_remote_code: Annotated[
        bool, Option("--trust-remote-code", "", "Run the Python files that come with the model.")
    ] = False


def check_revision(revision: str | None, model: str) -> None:
    """Refuse a revision of a local folder, which has none.

    Raises:
        UserError: the model is a folder.
    """
    # A folder of that name wins over a Hub id, as transformers resolves it.
    if revision is not None and Path(model).exists():
        raise UserError(f"--revision goes with a model of the Hub; {model} is a folder")


def check_models(models: tuple[str, ...]) -> None:
    """Refuse no model, or one that is named twice.

    Raises:
        UserError: either of them.
    """
    if not models:
        raise UserError("no model is named: name one, such as reference")
    # Twins would share one column of every table.
    if len(set(models)) < len(models):
        raise UserError("a model is named twice: name each once")
