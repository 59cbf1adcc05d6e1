"""A GGUF file read back: which tensors, which vocabulary, what it says of its layers."""

import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from coterie.models.cutting.layer_names import find_disk_stack
from coterie.models.families.family import layer_kinds
from coterie.models.families.fields import text_config
from coterie.models.files.sources import Source
from coterie.models.files.tensors import read_tensor
from coterie.models.loaded.load import load_tokenizer
from coterie.verbs.export.result import ExportError

if TYPE_CHECKING:
    from gguf import GGUFReader

_CLOSE = 2e-3
"""Relative difference of a layer's sum of squares that rounding to 16 bits explains."""

# Converters reshape, negate or take the exponential of these.
_REMADE = re.compile(r"A_log|conv1d|ssm_a|ssm_conv1d|rope_freqs")


@contextmanager
def gguf_package(converter: Path) -> Iterator[None]:
    """Inside this block the package `gguf` is there: the installed one, or the converter's own.

    Raises:
        ExportError: there is neither.
    """
    beside = str(converter.parent / "gguf-py")
    sys.path.append(beside)
    try:
        try:
            import gguf  # noqa: F401
        except ImportError as error:
            raise ExportError(
                "to check what the converter wrote the package gguf is needed: pip install"
                " 'coterie[gguf]'"
            ) from error
        yield
    finally:
        sys.path.remove(beside)


def write_pattern(file: Path, source: Source) -> str | None:
    """Write into a GGUF file which layers slide, where its architecture has such layers.

    Args:
        file: As the converter wrote it; it is replaced.
        source: The checkpoint it was made of.

    Returns:
        The line that says so; None where there is nothing to say, or the file says it.
    """
    from gguf import GGUFReader

    slides = [kind == "sliding_attention" for kind in layer_kinds(text_config(source.config()))]
    if not any(slides):
        return None
    reader = GGUFReader(file)
    key = f"{_text(reader, 'general.architecture')}.attention.sliding_window_pattern"
    if key not in reader.fields or reader.fields[key].contents() != slides:
        aside = file.with_suffix(".pattern.gguf")
        _copy(reader, aside, key, slides)
        aside.replace(file)
    return f"{key} says which layers slide: {sum(slides)} of {len(slides)}"


def _copy(reader: "GGUFReader", to: Path, key: str, slides: list[bool]) -> None:
    """The same file with one key more."""
    from gguf import GGUFValueType, GGUFWriter

    writer = GGUFWriter(to, _text(reader, "general.architecture"))
    for field in reader.fields.values():
        # The writer writes these by itself.
        if field.name in ("general.architecture", key) or field.name.startswith("GGUF."):
            continue
        kind, inner = field.types[0], field.types[-1]
        sub_type = inner if kind == GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, sub_type=sub_type)
    writer.add_key_value(key, slides, GGUFValueType.ARRAY, sub_type=GGUFValueType.BOOL)
    for tensor in reader.tensors:
        data = tensor.data
        writer.add_tensor_info(tensor.name, data.shape, data.dtype, data.nbytes, tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in reader.tensors:
        writer.write_tensor_data(tensor.data)
    writer.close()


def check_file(file: Path, source: Source) -> list[str]:
    """Hold a GGUF file against the checkpoint it was made of.

    Args:
        file: The GGUF file.
        source: The checkpoint.

    Returns:
        What was found, a line each.

    Raises:
        ExportError: layers, tensors or vocabulary are not those of the checkpoint.
    """
    from gguf import GGUFReader

    reader = GGUFReader(file)
    stack = find_disk_stack(source.entries, source.config())
    kind = _text(reader, "general.architecture")
    n_layers = int(reader.fields[f"{kind}.block_count"].contents())
    if n_layers != stack.n_players:
        raise ExportError(f"{file.name} has {n_layers} layers, the checkpoint {stack.n_players}")
    return [
        f"{file.name}: {kind}, {n_layers} layers, {len(reader.tensors)} tensors",
        _check_layers(reader, source, file.name),
        _check_tokens(reader, source, file.name),
    ]


def _check_layers(reader: "GGUFReader", source: Source, name: str) -> str:
    from gguf.quants import dequantize

    # Names, order of rows and stacking of experts differ: what a layer sums up to does not.
    theirs: dict[int, float] = defaultdict(float)
    for tensor in reader.tensors:
        found = re.match(r"blk\.(\d+)\.", tensor.name)
        if found and len(tensor.shape) > 1 and not _REMADE.search(tensor.name):
            values = dequantize(tensor.data, tensor.tensor_type).astype(np.float64)
            theirs[int(found[1])] += float(np.square(values).sum())
    stack = find_disk_stack(source.entries, source.config())
    ours: dict[int, float] = defaultdict(float)
    for entry in source.entries:
        layer = stack.layer_of(entry.name)
        if layer is None or len(entry.shape) < 2 or _REMADE.search(entry.name):
            continue
        own = read_tensor(entry)
        if not own.is_floating_point():
            return "tensors are packed and were counted, not compared"
        ours[layer] += float(own.double().square().sum())
    ours = {layer: total for layer, total in ours.items() if layer < stack.n_players}
    for layer, total in ours.items():
        if abs(theirs.get(layer, 0.0) - total) > _CLOSE * total:
            raise ExportError(f"{name}: layer {layer} does not hold the weights of the checkpoint")
    return f"the weights of {len(ours)} layers are those of the checkpoint, layer by layer"


def _check_tokens(reader: "GGUFReader", source: Source, name: str) -> str:
    told = reader.fields["tokenizer.ggml.tokens"].contents()
    rows = int(text_config(source.config()).vocab_size)
    if len(told) != rows:
        raise ExportError(f"{name} has {len(told)} tokens, the embedding {rows} rows")
    if _text(reader, "tokenizer.ggml.model") != "gpt2":
        return f"{len(told):,} tokens, as the embedding has rows"
    vocabulary = load_tokenizer(source).get_vocab()
    other = [token for token, row in vocabulary.items() if row < rows and told[row] != token]
    if other:
        raise ExportError(f"{name} calls token {vocabulary[other[0]]} {told[vocabulary[other[0]]]}")
    return f"{len(told):,} tokens, each by the name that the tokenizer gives it"


def _text(reader: "GGUFReader", key: str) -> str:
    return str(reader.fields[key].contents())
