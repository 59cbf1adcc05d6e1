"""GPTQ and AWQ by llm-compressor, which asks for another transformers and so has its own Python.

That Python is handed the checkpoint and the texts as token ids, runs `compressor_script` by itself,
and answers with what the model lost and with its logits before it was saved and after.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from coterie.game.coalitions import Vector
from coterie.models.cutting.verify import probe_tokens
from coterie.models.cutting.write import carry
from coterie.models.families.fields import text_config
from coterie.models.files.sources import Source
from coterie.plain import Json
from coterie.quantization import llmcompressor_script as compressor_script
from coterie.quantization.checkpoint import Reloaded, check_plain, check_reloaded
from coterie.quantization.schemes import INTERPRETER, SchemeError
from coterie.scores.sequence_losses import floored
from coterie.scratch import Scratch
from coterie.texts.sets import Tokens

# Shown in messages, so that the way out can be copied.
_INSTALL = "python -m venv ENV && ENV/bin/pip install llmcompressor"
_VERSION = "from importlib.metadata import version; print(version('llmcompressor'))"


@dataclass(frozen=True)
class Environment:
    """A Python that has llm-compressor, and which version of it."""

    python: Path
    version: str


@dataclass(frozen=True, eq=False)
class Compressed:
    """What the other environment found.

    Attributes:
        before: Losses on what judges, ``(n_sequences,)``, and how many were no number.
        after: The same for the checkpoint that was read back.
        group: Inputs that share a scale; None where an output has one.
        versions: Versions of the packages that did it.
    """

    reloaded: Reloaded
    before: tuple[Vector, int]
    after: tuple[Vector, int]
    group: int | None
    versions: dict[str, str]


def find_environment(asked: str | None, scheme: str) -> Environment:
    """The Python to quantize with, known to have llm-compressor.

    Raises:
        SchemeError: none is named, it does not run, or llm-compressor is not there.
    """
    named = asked or os.environ.get(INTERPRETER)
    if not named:
        raise SchemeError(
            f"--scheme {scheme} is llm-compressor's, which needs an environment of its own:"
            f" {_INSTALL}, then --environment ENV/bin/python"
        )
    found = shutil.which(named)
    if found is None:
        raise SchemeError(
            f"--environment {named} is no program that runs: name the Python of an environment with"
            f" llm-compressor ({_INSTALL})"
        )
    # Not resolved: the Python of a virtual environment is a link, and knows itself by its place.
    python = Path(found).absolute()
    try:
        answer = _run(python, "-c", _VERSION)
    except OSError as error:
        raise SchemeError(f"--environment {named} does not run: {error.strerror}") from error
    if answer.returncode:
        raise SchemeError(
            f"--environment {named} has no llm-compressor: {named} -m pip install llmcompressor"
        )
    return Environment(python, answer.stdout.strip())


def write_compressed(
    source: Source,
    scheme: str,
    environment: Environment,
    *,
    folder: Path,
    texts: tuple[Tokens, Tokens],
    device: torch.device,
) -> Compressed:
    """Quantize a checkpoint into an empty folder, and have it read back.

    Args:
        texts: Sequences that calibrate, and others that judge.
        source: The checkpoint.
        scheme: The scheme, by its name.
        environment: The Python that has llm-compressor.
        folder: An empty folder.
        device: Device that the other environment computes on.

    Raises:
        SchemeError: the model is quantized already, or llm-compressor refuses it.
        VerificationError: what was read back gives other logits.
    """
    check_plain(source)
    calibration, held_out = (torch.from_numpy(one).contiguous() for one in texts)
    # Token ids, not text: tokenizers of another version might cut it otherwise.
    tokens = {"calibration": calibration, "judges": held_out, "checked": probe_tokens(source)}
    job: dict[str, Json] = {
        "scheme": scheme,
        "model": str(source.folder.resolve()),
        "output": str(folder.resolve()),
        "device": str(device),
        "trust": source.trust_remote_code,
    }
    try:
        found, metadata = _answer(environment, job, tokens)
    except _Refused as error:
        what = f"llm-compressor cannot quantize {source.name!r} as {scheme}: {error}"
        raise SchemeError(what) from error
    carry(source.folder, folder)
    # The script gives raw losses; they are read here by the rule that all other losses are.
    vocabulary = text_config(source.config()).vocab_size
    return Compressed(
        reloaded=check_reloaded(source.name, scheme, found["saved"], found["read"]),
        before=floored(found["before"].numpy(), vocabulary),
        after=floored(found["after"].numpy(), vocabulary),
        group=int(metadata["group_size"]) or None,
        versions=json.loads(metadata["versions"]),
    )


class _Refused(Exception):
    """The other Python left no result; the message is the last line it wrote."""


def _answer(
    environment: Environment, job: Mapping[str, Json], tokens: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Run the script on a job in a folder of its own: the tensors it found, and what it notes."""
    with Scratch() as place:
        # The two Pythons share no package: they speak through files.
        (place / "job.json").write_text(json.dumps(job), encoding="utf-8")
        save_file(dict(tokens), place / "texts.safetensors")
        ended = _run(environment.python, compressor_script.__file__, str(place), place=place)
        # The result is renamed into place when it is whole: if it is there, it can be read.
        result = place / "result.safetensors"
        if ended.returncode or not result.is_file():
            lines = ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"]
            raise _Refused(lines[-1])
        with safe_open(result, framework="pt") as file:
            return load_file(result), file.metadata()


def _run(
    python: Path, *words: str, place: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run it by itself: none of our packages, and nothing from the network."""
    return subprocess.run(
        [str(python), "-I", *words],
        cwd=place,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
