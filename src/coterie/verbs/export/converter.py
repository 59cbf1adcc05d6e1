"""llama.cpp's converter, found and run; what it wrote is told of its layers and read back."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from coterie.models.files.sources import Source
from coterie.verbs.export import gguf_script
from coterie.verbs.export.result import ExportError

CONVERTER = "convert_hf_to_gguf.py"


def find_converter(asked: Path | None) -> Path | None:
    """The converter that is named, or the one on the search path; None where there is none.

    Raises:
        ExportError: what is named is no converter.
    """
    if asked is None:
        found = shutil.which(CONVERTER)
        return None if found is None else Path(found)
    file = asked / CONVERTER if asked.is_dir() else asked
    if not file.is_file() or file.suffix != ".py":
        raise ExportError(
            f"--converter {asked} is not there: name llama.cpp's {CONVERTER}, or the folder that"
            " holds it"
        )
    return file.resolve()


def convert(converter: Path, source: Source, out: Path, kind: str, pre: str | None = None) -> None:
    """Run the converter in a process of its own.

    Args:
        converter: llama.cpp's ``convert_hf_to_gguf.py``.
        source: The checkpoint.
        out: The file to write.
        kind: ``"auto"``, ``"f32"``, ``"f16"`` or ``"bf16"``.
        pre: How the tokenizer splits text first, where the converter does not know it.

    Raises:
        ExportError: it failed; the last line that it said.
    """
    words = [converter, source.folder, out, kind, *([] if pre is None else [pre])]
    run_script(Path(gguf_script.__file__), words, f"the converter {converter.name} failed")
    if not out.is_file():
        raise ExportError(f"the converter {converter.name} wrote nothing: run it by itself to see")


def run_script(
    script: Path, words: Sequence[object], failed: str, python: str | None = None
) -> None:
    """Run one of the package's scripts by itself.

    Args:
        script: The file.
        words: Its arguments.
        failed: How the message begins where it fails.
        python: The Python that runs it; None is this one.

    Raises:
        ExportError: it failed, or that Python does not run.
    """
    run_python([str(script), *map(str, words)], failed, python)


def run_python(words: Sequence[str], failed: str, python: str | None = None) -> None:
    """Run a Python.

    Args:
        words: What it is given.
        failed: How the message begins where it fails.
        python: Which; None is this one.

    Raises:
        ExportError: it failed; the last line that it said. Or that Python does not run.
    """
    command = [python or sys.executable, *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise ExportError(f"{python} does not run ({error.strerror}): name a Python") from error
    if done.returncode:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise ExportError(f"{failed}: {said[-1] if said else f'exit {done.returncode}'}")
