"""`export --to gguf`: checked for llama.cpp, and converted where its converter is at hand."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from coterie.models.cutting.layer_names import find_disk_stack
from coterie.models.families.fields import text_config
from coterie.models.families.registry import family_of
from coterie.models.files.sources import Source
from coterie.models.runtimes.architectures import GGUF
from coterie.verbs.checkpoint_requests import ExportRequest
from coterie.verbs.export import checks
from coterie.verbs.export.converter import CONVERTER, convert, find_converter
from coterie.verbs.export.gguf_file import check_file, gguf_package, write_pattern
from coterie.verbs.export.result import Export, ExportError
from coterie.verbs.export.same_tokens import check_binding, same_tokens
from coterie.verbs.outputs.output_file import OutputFile
from coterie.verbs.outputs.reads import reads_of
from coterie.verbs.outputs.records import read_record

_UNREAD = ("torchao", "bitsandbytes", "quanto", "hqq")
"""Quantizations that the converter does not read."""


def to_gguf(request: ExportRequest, source: Source, output: Path | None) -> Export:
    """Check a checkpoint for llama.cpp; write and prove the file where there is a converter.

    Args:
        request: The checkpoint, the converter, and a Python with a binding.
        source: Its files.
        output: The file to write; None is beside the folder, named as it is.

    Raises:
        ExportError: llama.cpp would not read it, a program named is none, or what was written is
            not the checkpoint.
    """
    check_binding(request.environment)
    converter = find_converter(request.converter)
    found = check_gguf(source, carried=converter is not None)
    name = output or source.folder.with_name(f"{source.folder.name}.gguf")
    if converter is None:
        if output is not None:
            raise ExportError(f"no {CONVERTER} is at hand to write {output}: give --converter PATH")
        command = ["python", CONVERTER, str(source.folder), "--outfile", str(name)]
        return Export("gguf", (*found, *_from_existing(source)), None, shlex.join(command))
    with gguf_package(converter):
        made = _written(request, source, converter, OutputFile(name, "--output", reads_of(request)))
    command = ["llama-cli", "-m", str(name)]
    return Export("gguf", (*found, *made, *_from_existing(source)), None, shlex.join(command))


def check_gguf(source: Source, *, carried: bool = False) -> list[str]:
    """What can be known without the converter.

    Args:
        source: The checkpoint.
        carried: Whether the file that is written will say what layers are.

    Raises:
        ExportError: llama.cpp would not read it, or would read it wrongly.
    """
    _check_quantization(source)
    return [
        checks.known_architecture(source, GGUF, "llama.cpp's converter"),
        checks.readable(source, "llama.cpp", carried=carried),
        *checks.whole(source),
        checks.tokens(source),
        *_widths(source),
    ]


def _written(
    request: ExportRequest, source: Source, converter: Path, file: OutputFile
) -> list[str]:
    found: list[str] = []

    def make(aside: Path) -> None:
        convert(converter, source, aside, "auto")
        pattern = write_pattern(aside, source)
        lines = [*([] if pattern is None else [pattern]), *check_file(aside, source)]
        with TemporaryDirectory() as work:
            lines.append(same_tokens(aside, source, request.environment, Path(work)))
        # The file is told by the name that it is about to get.
        found.extend(line.replace(aside.name, file.path.name) for line in lines)

    file.fill(make)
    return found


def _check_quantization(source: Source) -> None:
    fields = source.raw_config().get("quantization_config")
    method = str(fields.get("quant_method")) if isinstance(fields, dict) else ""
    if any(method.startswith(name) for name in _UNREAD):
        raise ExportError(
            f"'{source.name}' is quantized by {method}, which llama.cpp's converter does not read:"
            " export it as it was before, and quantize the GGUF file (llama-quantize)"
        )


def _widths(source: Source) -> Sequence[str]:
    """llama.cpp quantizes rows in blocks of 256 or 32 values; a row must be whole blocks."""
    hidden = getattr(text_config(source.config()), "hidden_size", None)
    if not hidden:
        return ()
    packs = {
        256: "Q4_K and its like fit",
        32: "Q8_0 and Q4_0 fit",
        1: "no quantized format fits",
    }
    fits = next(packs[block] for block in packs if hidden % block == 0)
    return (f"width {hidden}: {fits} without padding",)


def _from_existing(source: Source) -> Sequence[str]:
    """How a GGUF file of the full model is cut instead, where no weight was changed."""
    record = read_record(source.folder)
    if record is None or record.cut is None or record.model is None:
        return ()
    model, config = record.model, text_config(source.config())
    n_layers = find_disk_stack(source.entries, source.config()).n_players
    changed = record.after or record.kind == "sparsify" or family_of(config).rewritten
    if changed or model.player_kind != "layer" or n_layers != len(record.cut.kept):
        return ()
    try:
        # That tool writes no new key, so the layers must be told by their number.
        checks.readable(source, "llama.cpp")
    except ExportError:
        return ()
    gone = ",".join(map(str, record.cut.removed))
    return (
        f"of a GGUF file of {model.name}, the same cut: llama-quantize --prune-layers {gone}"
        " FULL.gguf CUT.gguf COPY",
    )
