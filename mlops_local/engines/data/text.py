"""Refuse text that is no table, naming the line: polars would fill a short line with nulls in silence.

A CSV file is checked by an in-memory DuckDB, which counts values; the line is then found as an editor counts it.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from mlops_local.domain.errors import DataError

_GZIP = b"\x1f\x8b"
_TOO_LONG = "Maximum line size"
"""Of what DuckDB says of a line beyond what it expects at most, 2 MB."""
_LONGEST = 64_000_000
"""What it is told to expect then: it takes 400 MB of memory for that."""
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


@contextmanager
def fields_of_any_length() -> Iterator[None]:
    """Let Python's csv read fields of more than 131,072 characters."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def separator(file: Path) -> str:
    """Return what parts the values of a text table of that suffix."""
    return "\t" if file.suffix.lower() == ".tsv" else ","


def check(file: Path, place: str, delimiter: str) -> None:
    """Refuse a CSV file without a header, with two columns of one name, or in which a line is too short or too long.

    Args:
        file: to read.
        place: how messages name it.
        delimiter: what parts its values.

    Raises:
        DataError: with the line.
    """
    _check_lines(file, len(header(file, place, delimiter)), place, delimiter)


def plain(file: Path, delimiter: str, count: int | None = None) -> bool:
    """Say whether a file has no quotation mark, so that no value holds a delimiter or is quoted wrongly.

    Args:
        file: to read.
        delimiter: what parts its values.
        count: so many of it there must be too.
    """
    import numpy as np  # noqa: PLC0415  (60 ms, and only when a CSV file changed)

    found = 0
    with file.open("rb", buffering=0) as raw:
        for block in iter(lambda: raw.read(1 << 20), b""):
            if b'"' in block:
                return False
            if count is not None:  # bytes.count takes four times as long where there are many
                found += int(np.count_nonzero(np.frombuffer(block, dtype=np.uint8) == ord(delimiter)))
    return count is None or found == count


def not_utf8(file: Path, place: str) -> DataError:
    """What to say of a file that is not UTF-8: the first line that is not."""
    with file.open("rb") as raw:
        for number, line in enumerate(raw, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                likely = "utf-16" if number == 1 and line[:2] in _UTF16 else "latin1"
                return DataError(
                    f"{place}, line {number}: not UTF-8 text (byte 0x{line[error.start]:02x})",
                    hint=f"convert it, as in iconv -f {likely} -t utf-8",
                )
    return DataError(f"{place}: not UTF-8 text", hint="run the command again when its writer is done")


def header(file: Path, place: str, delimiter: str) -> list[str]:
    """Return the names in a CSV file's first line.

    Args:
        file: to read.
        place: how messages name it.
        delimiter: what parts its values.

    Raises:
        DataError: it has no names, or one twice.
    """
    try:
        with file.open(encoding="utf-8", newline="") as text:
            names = next(csv.reader(text, delimiter=delimiter), [])
            ends = text.newlines
    except csv.Error as error:
        raise DataError(f"{place}, line 1: {error}", hint="its first line must name the columns") from error
    except UnicodeDecodeError as error:
        if error.object[:2] == _GZIP:
            raise DataError(
                f"{place}: it is compressed (gzip), not text",
                hint="unpack it, as in zcat FILE > table.csv, or convert it to Parquet",
            ) from error
        raise not_utf8(file, place) from error
    if not any(names):
        raise DataError(f"{place}: the file is empty", hint="its first line must name the columns")
    if ends == "\r":  # polars would see one line
        raise DataError(
            f"{place}: its lines end in carriage returns alone", hint="convert it: tr '\\r' '\\n' < FILE > table.csv"
        )
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise DataError(f"{place}, line 1: two columns are called {double!r}", hint="rename one of them")
    return [name.removeprefix("﻿") for name in names]


def filled(file: Path, delimiter: str, rows: int) -> set[str]:
    """Return the columns that have a value in one of the first rows of a CSV file; none where those cannot be read."""
    try:
        with fields_of_any_length(), file.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(text, delimiter=delimiter)
            names = next(reader, [])
            held = [dict(zip(names, values, strict=False)) for values in islice(reader, rows)]
    except (csv.Error, UnicodeDecodeError):
        return set()
    return {name for row in held for name, value in row.items() if value}


def _check_lines(file: Path, width: int, place: str, delimiter: str) -> None:
    """Refuse a CSV file in which a line has more or fewer values than the header, naming the line."""
    import duckdb  # noqa: PLC0415  (87 ms, and only when a CSV file changed)

    names = {f"c{index}": "VARCHAR" for index in range(width)}
    query = (
        f"SELECT count(*) FROM read_csv(?, columns = {names!r}, auto_detect = false, header = true, delim = '{delimiter}', "
        f"quote = '\"', escape = '\"', null_padding = false, strict_mode = true"
    )
    safe: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
    }
    with duckdb.connect(config=safe) as connection:
        for longer in ("", f", max_line_size = {_LONGEST}"):
            try:
                connection.execute(f"{query}{longer})", [str(file)]).fetchall()
                return
            except duckdb.Error as error:
                if longer or _TOO_LONG not in str(error):
                    raise _ragged(file, width, place, delimiter, str(error)) from error


def _ragged(file: Path, expected: int, place: str, delimiter: str, said: str) -> DataError:
    """Find the line DuckDB stumbled over; it counts records, an editor counts lines."""
    begun = 1
    if _TOO_LONG in said:
        return DataError(f"{place}: a line of more than {_LONGEST // 10**6} MB", hint="convert the file to Parquet")
    try:
        with fields_of_any_length(), file.open(encoding="utf-8", newline="") as text:
            reader = csv.reader(text, delimiter=delimiter, strict=True)
            for values in reader:
                if values and len(values) != expected:
                    count = f"{len(values)} value{'' if len(values) == 1 else 's'} where the header has {expected}"
                    return DataError(f"{place}, line {reader.line_num}: {count}", hint="mend or remove that line")
                begun = reader.line_num + 1
    except csv.Error as error:
        open_quote = "unexpected end" in str(error)
        wrong = "a quotation mark is opened and never closed" if open_quote else f"a value is quoted wrongly: {error}"
        return DataError(
            f"{place}, line {begun}: {wrong}", hint="mend that line: a quotation mark in a quoted value is doubled"
        )
    except UnicodeDecodeError:
        return not_utf8(file, place)
    return DataError(
        f"{place}: {said.splitlines()[0]}", hint="mend the file: UTF-8, values separated by commas, quotes doubled"
    )
