"""Rows of tables, from files: JSON lines, a JSON list, CSV, TSV and Parquet."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

from coterie.errors import TextError
from coterie.foreign import foreign
from coterie.texts.formats import Kind, decode, unpacked
from coterie.texts.rows import NamedText, RowReader, needed_columns

_LARGEST_CELL = 2**31 - 1  # of a CSV file; the library's own limit is smaller than a book


def read_table(kind: Kind, file: Path, name: str, rows: RowReader) -> Iterator[NamedText]:
    """The texts of the rows of a table.

    Args:
        kind: What the file is.
        file: The file.
        name: What messages and documents call it.
        rows: Turns a row into a text.

    Raises:
        TextError: the file cannot be read, a row is malformed, a column is not there.
    """
    if kind == "json lines":
        yield from _json_lines(file, name, rows)
    elif kind == "json list":
        yield from _json_list(file, name, rows)
    elif kind == "parquet":
        yield from _parquet(file, name, rows)
    else:
        yield from _separated(file, name, rows, "\t" if kind == "tsv" else ",")


def _json_lines(file: Path, name: str, rows: RowReader) -> Iterator[NamedText]:
    offset = 0
    with unpacked(file, name) as stream:
        for number, raw in enumerate(stream, start=1):
            line = decode(raw, name, offset)
            offset += len(raw)
            if line.strip():
                where = f"'{name}', line {number}"
                yield from rows.named(f"{name}:{number}", _parse(line, where), where)


def _json_list(file: Path, name: str, rows: RowReader) -> Iterator[NamedText]:
    with unpacked(file, name) as stream:
        text = decode(stream.read(), name, 0)
    if not text.strip():
        return
    found = _parse(text, f"'{name}'")
    if not isinstance(found, list):
        raise TextError(
            f"'{name}' is one JSON value, not a list; a .json file holds a list of texts or of "
            "objects with a text column (one object a line is a .jsonl file)"
        )
    for place, row in enumerate(found):
        yield from rows.named(f"{name}[{place}]", row, f"'{name}', entry {place}")


def _separated(file: Path, name: str, rows: RowReader, separator: str) -> Iterator[NamedText]:
    """The rows of a CSV or TSV file; its first line names the columns."""
    before = csv.field_size_limit(_LARGEST_CELL)
    try:
        with unpacked(file, name) as stream:
            lines = io.StringIO(decode(stream.read(), name, 0), newline="")
        # A quote in the middle of a TSV cell is a letter there as anywhere.
        table = csv.DictReader(lines, delimiter=separator, strict=separator == ",")
        if not table.fieldnames:
            return
        columns = needed_columns(list(table.fieldnames), rows.column, f"'{name}'")
        for row in table:
            where = f"'{name}', line {table.line_num}"
            # Cells too many stand under no name.
            if None in row:
                raise TextError(
                    f"{where} has more cells than the first line has columns: put a text that holds"
                    " separators between double quotes"
                )
            yield from rows.named(
                f"{name}:{table.line_num}", {one: row[one] for one in columns}, where
            )
    except csv.Error as error:
        raise TextError(
            f"'{name}', line {table.line_num} is not CSV ({error}): put a text that holds"
            " separators or quotes between double quotes, and write a quote inside it twice"
        ) from error
    finally:
        csv.field_size_limit(before)


def _parquet(file: Path, name: str, rows: RowReader) -> Iterator[NamedText]:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise TextError(
            f"'{name}' is a Parquet file, which needs pyarrow: pip install pyarrow"
        ) from error
    way_out = "it is truncated, or another kind of file: unpack it or download it again"
    refused = f"'{name}' cannot be read as Parquet"
    with (
        foreign(refused, way_out=way_out, kind=TextError),
        unpacked(file, name) as stream,
        parquet.ParquetFile(stream) as table,
    ):
        picked = needed_columns(table.schema_arrow.names, rows.column, f"'{name}'")
        place = 0
        for batch in table.iter_batches(batch_size=256, columns=picked):
            for row in batch.to_pylist():
                yield from rows.named(f"{name}[{place}]", row, f"'{name}', row {place}")
                place += 1


def _parse(text: str, where: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"column {error.colno}" if error.lineno == 1 else f"line {error.lineno}"
        raise TextError(f"{where} is not JSON: {error.msg} at {place}") from error
    except RecursionError as error:
        raise TextError(f"{where} is nested too deep to be read: take that row out") from error
    except ValueError as error:  # a number of more digits than Python converts
        raise TextError(
            f"{where} holds a number that cannot be read (more than 4,300 digits): write it as a"
            " text, in quotes"
        ) from error
