"""Fetch a checkpoint from the Hugging Face Hub: safetensors and small files, never a pickle."""

import re
from pathlib import Path

from coterie.errors import ModelError
from coterie.models.files.carried import NOTICES

WANTED = ("*.safetensors", "*.json", "*.txt", "*.model", "*.py", "*.jinja", "*.tiktoken", "*.md")
"""Files that a checkpoint is made of; licences and notices are asked for beside them."""

UNWANTED = ("original/*", "onnx/*", "openvino/*", "consolidated*.safetensors", "*/*.safetensors")


def looks_like_hub_id(model: str) -> bool:
    """Whether a name could be a Hub repository: ``owner/name`` or an old bare ``name``."""
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?", model) is not None


def download(model: str, revision: str | None) -> tuple[Path, str]:
    """Fetch a model and return its folder and the commit it is at.

    Without a network, a copy already in the local cache is used.

    Raises:
        ModelError: Unknown, gated, without safetensors, or neither reachable nor in the cache.
    """
    from huggingface_hub import errors

    reached = True
    try:
        names = _files_of(model, revision)
    except (errors.HfHubHTTPError, errors.HFValidationError) as error:
        raise _explained(error, model, revision) from error
    except (errors.HTTPError, OSError):
        reached = False  # silence, not an answer: the cache may still hold the model
    if reached:
        _refuse_other_weights(model, names)
    return _fetch(model, revision, [*WANTED, *NOTICES], offline=not reached)


def download_config(model: str, revision: str | None) -> tuple[Path, str]:
    """Fetch only the config of a model and its own Python files; see `download`."""
    return _fetch(model, revision, ["config.json", "*.py"], offline=False)


def _fetch(
    model: str, revision: str | None, patterns: list[str], *, offline: bool
) -> tuple[Path, str]:
    from huggingface_hub import errors, snapshot_download

    try:
        folder = snapshot_download(
            model,
            revision=revision,
            allow_patterns=patterns,
            ignore_patterns=list(UNWANTED),
            local_files_only=offline,
        )
    except (errors.HTTPError, errors.HFValidationError, OSError, ValueError) as error:
        raise _explained(error, model, revision) from error
    return Path(folder), Path(folder).name


def _files_of(model: str, revision: str | None) -> list[str]:
    from huggingface_hub import model_info

    siblings = model_info(model, revision=revision, timeout=20).siblings
    return [sibling.rfilename for sibling in siblings or []]


def _refuse_other_weights(model: str, names: list[str]) -> None:
    """Look at the list of files before gigabytes travel for nothing."""
    whole = any(name.endswith(".safetensors") and "adapter" not in name for name in names)
    if whole and "adapter_config.json" in names:
        raise ModelError(
            f"{model!r} holds full weights and a PEFT adapter in one place: merge them (peft's"
            " merge_and_unload, then save_pretrained), and give the folder of the result"
        )
    if whole:
        return
    if "adapter_config.json" in names:
        raise ModelError(
            f"{model!r} is a PEFT adapter, not a model: merge it into its base model first"
            " (peft's merge_and_unload, then save_pretrained)"
        )
    if any(name.endswith(".gguf") for name in names):
        raise ModelError(
            f"{model!r} holds GGUF files only: cut the safetensors checkpoint they were made from"
        )
    if any(name.endswith((".bin", ".pt", ".pth")) for name in names):
        raise ModelError(
            f"{model!r} holds its weights as pickles only, which can run code when opened: convert"
            " them to safetensors once, with transformers' save_pretrained"
        )
    raise ModelError(f"{model!r} holds no .safetensors file: it is not a checkpoint")


def _explained(error: Exception, model: str, revision: str | None) -> ModelError:
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return ModelError(
            f"{model!r} is gated: accept its terms on its Hub page, then log in (hf auth login)"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return ModelError(f"{model!r} has no revision {revision!r}: give a branch, tag or commit")
    if isinstance(error, errors.RepositoryNotFoundError | errors.HFValidationError):
        return ModelError(
            f"there is no folder and no Hub model {model!r}: check the spelling, or log in if it is"
            " private (hf auth login)"
        )
    return ModelError(
        f"the model {model!r} is not in the local cache and the Hub cannot be reached: connect, or"
        " give a local folder, or 'reference', which ships with Coterie"
    )
