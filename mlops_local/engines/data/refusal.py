"""Say of a file that cannot be read as a table what is wrong with it, where, and what to do: polars knows no file's name.

Called when reading has failed already, so what it costs to find the line does not matter. Changes nothing.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlops_local.domain.errors import DataError
from mlops_local.engines.data import text

_COPY = "copy it again from where it came, or move it out of the pattern"
_MEND = "mend the value, or convert the file to Parquet with the types you mean"
_VALUE = re.compile(r"could not parse `(.*)` as dtype `.*` at column '(.*)' \(column number (\d+)\)", re.DOTALL)
_LONGEST = 40
_SAID = 120
_PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip", ".7z", ".tar", ".tgz", ".lz4", ".br")
_SHEETS = (".xlsx", ".xls", ".xlsm", ".ods")


def no_table(path: str) -> str:
    """Say what a file is by its name that is no table here; empty where nobody would take it for one."""
    suffix = Path(path).suffix.lower()
    if suffix in _PACKED:
        return "is compressed"
    if suffix in _SHEETS:
        return "is a workbook"
    return {".json": "is JSON, not lines of it"}.get(suffix, "")


def unreadable(path: str, file: Path, form: str, label: str, kinds: Mapping[str, Any], error: Exception) -> DataError:
    """Return what to say of a file that polars refuses.

    Args:
        path: as the file is called.
        file: where it lies.
        form: how it was read: parquet, csv, lines or arrow.
        label: how messages name the source.
        kinds: the types its columns were read as; none where it failed before they were known.
        error: what polars said.
    """
    place = f"{label}: {path}"
    match form:
        case "parquet":
            return DataError(f"{place} is not a readable Parquet file: {_parquet(file) or _damaged(error)}", hint=_COPY)
        case "arrow":
            return _arrow(file, place, error)
        case "csv":
            return _csv(file, place, text.separator(Path(path)), kinds, error)
    return _lines(file, place, kinds, error)


def first(error: Exception) -> str:
    """The first line of what was said."""
    return str(error).strip().splitlines()[0]


def _damaged(error: Exception) -> str:
    said = first(error)
    return f"it is damaged ({said if len(said) <= _SAID else said[:_SAID] + '…'})"


def empty(place: str) -> DataError:
    """What to say of a file without a byte."""
    return DataError(f"{place}: the file is empty", hint="write it again, or move it out of the pattern")


def _parquet(file: Path) -> str:
    starts, ends = _ends(file, 4)
    if starts != b"PAR1":
        return "it does not begin as one"
    return "" if ends == b"PAR1" else "it is cut short"


def _arrow(file: Path, place: str, error: Exception) -> DataError:
    starts, ends = _ends(file, 6)
    if starts[:4] == b"\xff\xff\xff\xff":
        return DataError(
            f"{place} is in Arrow's stream format, of which no part can be found without reading all",
            hint="write the file format (polars: write_ipc, pyarrow: ipc.new_file), or Parquet",
        )
    said = "it does not begin as one" if starts != b"ARROW1" else "" if ends == b"ARROW1" else "it is cut short"
    return DataError(f"{place} is not a readable Arrow file: {said or _damaged(error)}", hint=_COPY)


def _ends(file: Path, count: int) -> tuple[bytes, bytes]:
    with file.open("rb") as raw:
        starts = raw.read(count)
        raw.seek(max(0, file.stat().st_size - count))
        return starts, raw.read(count)


def _csv(file: Path, place: str, delimiter: str, kinds: Mapping[str, Any], error: Exception) -> DataError:
    text.check(file, place, delimiter)
    found = _VALUE.search(str(error))
    if "utf-8" in str(error).lower():
        return text.not_utf8(file, place)
    if found is None:
        return DataError(f"{place}: {first(error)}", hint=_MEND)
    said, column = found[1], found[2]
    value = said[1:-1].replace('""', '"') if len(said) > 1 and said[0] == said[-1] == '"' else said
    line = csv_line(file, delimiter, int(found[3]) - 1, value)
    return _misfit(place, line, value, column, kinds.get(column))


def csv_line(file: Path, delimiter: str, index: int, value: str) -> int:
    """Return where a column first has a value, as an editor counts lines; 0 where that is not found."""
    with text.fields_of_any_length(), file.open(encoding="utf-8", errors="replace", newline="") as opened:
        reader = csv.reader(opened, delimiter=delimiter)
        next(reader, None)
        start = reader.line_num + 1
        for row in reader:
            if len(row) > index and row[index] == value:
                return start
            start = reader.line_num + 1
    return 0


def brief(value: str) -> str:
    """A value as messages have room for it."""
    return value if len(value) <= _LONGEST else value[: _LONGEST - 1] + "…"


def rows(file: Path) -> Iterator[tuple[int, Any]]:
    """The lines of a file of JSON lines, numbered from 1, up to the first that is none."""
    try:
        for number, line in _numbered(file):
            yield number, json.loads(line)
    except (ValueError, RecursionError):
        return


def _misfit(place: str, line: int, value: str, column: str, kind: Any) -> DataError:
    """A value that its column's type, told from the first rows or declared, does not hold."""
    where = f"{place}, line {line}" if line else place
    shown = brief(value)
    be = f", which is read as {str(kind).partition('(')[0]}" if kind is not None else ""
    return DataError(
        f"{where}: {shown!r} in column {column}{be}",
        column=column,
        hidden=f"{where}: a value in column {column}{be}",
        hint=f"mend the value, or declare what the column is: schema={{{json.dumps(column, ensure_ascii=False)}: "
        f'"{_wider(value, kind)}"}}',
    )


def _wider(value: str, kind: Any) -> str:
    """The narrowest type that holds numbers and this one, if it is one; else text."""
    if kind is None or not kind.is_integer():
        return "String"
    try:
        return "String" if abs(int(value)) >= 1 << 127 else "Int128"
    except ValueError:
        pass
    try:
        float(value)
    except ValueError:
        return "String"
    return "Float64"


def _lines(file: Path, place: str, kinds: Mapping[str, Any], error: Exception) -> DataError:
    """JSON lines: the first line that is none, or that does not fit."""
    if _ends(file, 4)[0][:2] in (b"\x1f\x8b", b"\x28\xb5"):  # polars unpacks gzip and zstd by itself
        return DataError(f"{place}: {first(error)}", hint=_MEND)
    number = 0
    for number, line in _numbered(file):
        where = f"{place}, line {number}"
        if line.startswith(b"\xef\xbb\xbf"):
            return DataError(f"{where}: begins with a byte order mark", hint="save it as UTF-8 without one")
        try:
            row = json.loads(line, parse_constant=_refuse)
        except UnicodeDecodeError:
            return text.not_utf8(file, place)
        except (ValueError, RecursionError) as wrong:
            said = f"{wrong.msg}, character {wrong.colno}" if isinstance(wrong, json.JSONDecodeError) else first(wrong)
            return DataError(f"{where}: not JSON: {said}", hint="mend or remove that line; a row is one line")
        if not isinstance(row, dict):
            return DataError(f"{where}: {_what(row)}, not an object", hint='a row is one line, as in {"id": 1, "name": "a"}')
        for column, kind in kinds.items():
            if not _fits(row.get(column), kind):
                value = row[column] if isinstance(row[column], str) else json.dumps(row[column], ensure_ascii=False)
                return _misfit(place, number, value, column, kind)
    if not number:
        return DataError(f"{place}: no line of it holds anything", hint="write it again, or move it out of the pattern")
    return DataError(f"{place}: {first(error)}", hint=_MEND)


def _numbered(file: Path) -> Iterator[tuple[int, bytes]]:
    """Lines with something in them, numbered from 1."""
    with file.open("rb") as raw:
        for number, line in enumerate(raw, 1):
            if line.strip():
                yield number, line


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _what(value: Any) -> str:
    return {list: "a list", str: "a text", type(None): "null", bool: "true or false"}.get(type(value), "a number")


def _fits(value: Any, kind: Any) -> bool:
    """Whether polars takes a JSON value for that type."""
    if value is None or str(kind) == "String":
        return True
    if str(kind) == "Boolean":
        return isinstance(value, bool)
    if kind.is_numeric():
        whole = isinstance(value, int) or not kind.is_integer()
        bounded = not kind.is_integer() or not isinstance(value, int) or -(1 << 63) <= value < 1 << 63
        return isinstance(value, (int, float)) and not isinstance(value, bool) and whole and bounded
    return not isinstance(value, (int, float, str)) if kind.is_nested() else True
