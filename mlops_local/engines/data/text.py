"""Refuse text that is no table, naming the line: polars would fill a short line with nulls in silence.

The values of a CSV are counted by an in-memory DuckDB; a line that is wrong is then found as an editor counts it, with Python's
csv. That also decides where quotation marks stand in the middle of values: whether polars reads those as they are is chance.
"""

from __future__ import annotations

import csv
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import compress, islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from mlops_local.domain.errors import DataError

if TYPE_CHECKING:
    import numpy as np

_GZIP = b"\x1f\x8b"
_TOO_LONG = "Maximum line size"
"""Of what DuckDB says of a line beyond what it expects at most, 2 MB."""
_LONGEST = 64_000_000
"""What it is told to expect then: it takes 400 MB of memory for that."""
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_BOM = b"\xef\xbb\xbf"
_QUOTE, _NEWLINE, _RETURN = b'"\n\r'
_BLOCK = 1 << 18
"""Bytes looked at together for quotation marks: what is known of them stays in the processor's cache."""


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
    """Refuse a CSV file without a header, with two columns of one name, with a line too short or too long, or wrongly quoted.

    Args:
        file: to read.
        place: how messages name it.
        delimiter: what parts its values.

    Raises:
        DataError: with the line.
    """
    width = len(header(file, place, delimiter))
    with file.open("rb", buffering=0) as raw:
        usual = quoted_as_usual(raw, delimiter)
    said = _miscounted(file, width, delimiter) if usual else ""
    if said == _TOO_LONG:
        raise DataError(f"{place}: a line of more than {_LONGEST // 10**6} MB", hint="convert the file to Parquet")
    if said or not usual:
        _read_through(file, width, place, delimiter)


def quoted_as_usual(raw: BinaryIO, delimiter: str) -> bool:
    """Say whether quotation marks only stand around whole values, and doubled within those (RFC 4180, 2.5 to 2.7).

    Args:
        raw: the lines of a CSV from the first on.
        delimiter: what parts its values.
    """
    import numpy as np  # noqa: PLC0415  (as in `plain`)

    before = np.zeros(256, dtype=bool)
    before[[ord(delimiter), _NEWLINE, _QUOTE]] = True
    behind = before.copy()
    behind[_RETURN] = True
    held, odd = b"\n", 0
    while block := raw.read(_BLOCK):
        if len(held) == 1:
            block = block.removeprefix(_BOM)
        # The first byte was looked at with the block before, the last is with the next one: all between have neighbours.
        held += block
        odd = _alternate(np.frombuffer(held, dtype=np.uint8), odd, before, behind)
        if odd < 0:
            return False
        held = held[-2:]
    return _alternate(np.frombuffer(held + b"\n", dtype=np.uint8), odd, before, behind) == 0


def _alternate(data: np.ndarray, odd: int, before: np.ndarray, behind: np.ndarray) -> int:
    """Return whether a quoted value is open after all but the last byte; -1 where a mark opens or closes none.

    Args:
        data: bytes, of which the first and the last are only neighbours.
        odd: whether one is open at their begin.
        before: by byte, whether a mark may stand behind it that opens a value; one that is doubled closes and opens one.
        behind: by byte, whether one may stand before it that closes a value.
    """
    import numpy as np  # noqa: PLC0415  (as in `plain`)

    marks = np.flatnonzero(data[1:-1] == _QUOTE) + 1
    opens, closes = marks[odd::2], marks[1 - odd :: 2]
    if not (before[data[opens - 1]].all() and behind[data[closes + 1]].all()):
        return -1
    return (odd + len(marks)) % 2


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
    double = next((name for name, count in Counter(names).items() if count > 1), None)
    if double is not None:
        raise DataError(f"{place}, line 1: two columns are called {double!r}", hint="rename one of them")
    return [name.removeprefix("﻿") for name in names]


def filled(file: Path, delimiter: str, rows: int) -> set[str]:
    """Return the columns that have a value in one of the first rows of a CSV file; none where those cannot be read."""
    found: set[str] = set()
    try:
        with fields_of_any_length(), file.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(text, delimiter=delimiter)
            names = next(reader, [])
            for values in islice(reader, rows):
                found.update(compress(names, values))
                if len(found) == len(names):
                    break
    except (csv.Error, UnicodeDecodeError):
        return set()
    return found


def _miscounted(file: Path, width: int, delimiter: str) -> str:
    """Return what DuckDB says of a line with more or fewer values than the header; also of lines that end in more than one way.

    It counts records, an editor counts lines: which it is has to be looked for. Nothing where all lines are right.
    """
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
    said = ""
    with duckdb.connect(config=safe) as connection:
        for longer in ("", f", max_line_size = {_LONGEST}"):
            try:
                connection.execute(f"{query}{longer})", [str(file)]).fetchall()
                return ""
            except duckdb.Error as error:
                said = str(error)
                if _TOO_LONG not in said:
                    return said
    return _TOO_LONG


def _read_through(file: Path, width: int, place: str, delimiter: str) -> None:
    """Refuse the first line that is no row, as an editor counts it."""
    begun, marks = 1, 0

    def counted(lines: Iterable[str]) -> Iterator[str]:
        nonlocal marks
        for line in lines:
            marks += line.count('"')
            yield line

    try:
        with fields_of_any_length(), file.open(encoding="utf-8", newline="") as text:
            reader = csv.reader(counted(text), delimiter=delimiter, strict=True)
            for values in reader:
                if marks % 2:  # from there on polars takes ends of lines for values
                    raise DataError(
                        f"{place}, line {begun}: a quotation mark in a value that is not in quotation marks",
                        hint='put that value in quotation marks and double those in it, as in "19"" screen"',
                    )
                if values and len(values) != width:
                    count = f"{len(values)} value{'' if len(values) == 1 else 's'} where the header has {width}"
                    raise DataError(f"{place}, line {reader.line_num}: {count}", hint="mend or remove that line")
                begun, marks = reader.line_num + 1, 0
    except csv.Error as error:
        open_quote = "unexpected end" in str(error)
        wrong = "a quotation mark is opened and never closed" if open_quote else f"a value is quoted wrongly: {error}"
        raise DataError(
            f"{place}, line {begun}: {wrong}", hint="mend that line: a quotation mark in a quoted value is doubled"
        ) from error
    except UnicodeDecodeError as error:
        raise not_utf8(file, place) from error
