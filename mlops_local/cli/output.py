"""The only writer to stdout: plain lines, aligned tables and JSON envelopes.

What a user named is shown, never executed: control characters appear as escapes. Tables are cut to the terminal's width and
left whole in a pipe. JSON numbers that other programs would garble (beyond 2^53, NaN, infinity) travel as strings.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from mlops_local.cli import diagnostics

_EXACT = 2**53
_GAP = "  "
_NARROWEST = 6


class Column(NamedTuple):
    """One column of a table."""

    title: str
    right: bool = False
    """Align right: for numbers."""
    keep: bool = False
    """Never cut: ids, states, numbers."""
    styles: Mapping[str, str] = {}
    """Value -> style of `paint`, on a terminal."""


def line(text: str = "") -> None:
    """Write one line; line breaks in it stay, other control characters are escaped."""
    sys.stdout.write("\n".join(escape(part) for part in text.split("\n")) + "\n")


def paint(style: str, text: str) -> str:
    """Text in the colour of a style where stdout is a terminal that shows colours; as it is elsewhere."""
    return diagnostics.painted(style, text, sys.stdout) if style else text


def branch(above: Sequence[bool], *, last: bool) -> str:
    """What stands before a tree's node: lines where nodes above have others after them, and the corner of its own."""
    fine = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    line, tee, corner = ("│  ", "├─ ", "└─ ") if fine else ("|  ", "|- ", "`- ")
    return "".join("   " if ended else line for ended in above) + (corner if last else tee)


def raw(text: str) -> None:
    """Write text of our own making exactly as it is: a completion script, CSV."""
    sys.stdout.write(text)


def flush() -> None:
    """Hand over what was written: for lines that somebody waits for."""
    sys.stdout.flush()


def items(what: str, values: Iterable[Any], **beside: Any) -> None:
    """Write a list as `{"schema": "mlops/<what>@1", "items": [...]}`."""
    _json({"schema": f"mlops/{what}@1", "items": list(values), **beside})


def fields(what: str, value: Any) -> None:
    """Write one thing as JSON, its fields beside `schema`."""
    _json({"schema": f"mlops/{what}@1", **plain(value)})


def jsonl(what: str, value: Any) -> None:
    """Write one thing as JSON on one line, for streams."""
    sys.stdout.write(json.dumps({"schema": f"mlops/{what}@1", **plain(value)}, separators=(",", ":")) + "\n")


def _json(value: Any) -> None:
    text = json.dumps(plain(value), ensure_ascii=False, indent=2)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(plain(value), ensure_ascii=True, indent=2)
    sys.stdout.write(text + "\n")


def plain(value: Any) -> Any:
    """Turn a domain value into what JSON can hold without loss."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return getattr(value, "value", value)
    if isinstance(value, int):
        return value if abs(value) <= _EXACT else str(value)
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    if isinstance(value, Sequence | set | frozenset):
        return [plain(item) for item in value]
    if hasattr(value, "__dataclass_fields__"):  # not its items: they have the class's constants too
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _number(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def csv(titles: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write CSV as RFC 4180 has it, with lossless numbers; nothing is escaped: another program reads it."""
    import csv as library

    writer = library.writer(sys.stdout, lineterminator="\n")
    writer.writerow(titles)
    for row in rows:
        writer.writerow(["" if value is None else _field(value) for value in row])


def _field(value: Any) -> Any:
    found = plain(value)
    return json.dumps(found, ensure_ascii=False) if isinstance(found, list | dict | bool) else found


def table(columns: Sequence[Column | str], rows: Iterable[Sequence[Any]], *, empty: str = "") -> None:
    """Write rows under their titles, aligned; cut to the terminal's width when stdout is one.

    Args:
        columns: a title, or a Column where alignment matters.
        rows: one value a column; None shows as nothing.
        empty: said instead of titles over nothing.
    """
    heads = [column if isinstance(column, Column) else Column(column) for column in columns]
    heads = [head._replace(title=escape(head.title)) for head in heads]
    cells = [[escape(text(value)) for value in row] for row in rows]
    if not cells and empty:
        line(empty)
        return
    widths = [max(_width(row[index]) for row in [[head.title for head in heads], *cells]) for index in range(len(heads))]
    limit = terminal_width()
    if limit is not None:
        widths = _fit(widths, heads, limit)
    for row in [[head.title for head in heads], *cells]:
        shown = [_cell(value, width, head) for value, width, head in zip(row, widths, heads, strict=True)]
        painted = [paint(head.styles.get(cell.strip(), ""), cell) for cell, head in zip(shown, heads, strict=True)]
        sys.stdout.write(_GAP.join(painted).rstrip() + "\n")


def markdown(columns: Sequence[Column | str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table as Markdown: what means something there is escaped, and so are control characters."""
    heads = [column if isinstance(column, Column) else Column(column) for column in columns]
    line(f"| {' | '.join(_markdown(head.title) for head in heads)} |")
    line(f"|{'|'.join(' ---: ' if head.right else ' --- ' for head in heads)}|")
    for row in rows:
        line(f"| {' | '.join(_markdown(text(value)) for value in row)} |")


def _markdown(value: str) -> str:
    shown = escape(value.replace("\n", " "))
    return "".join(f"\\{character}" if character in "\\|`*_[]<>#" else character for character in shown)


def pairs(values: Iterable[tuple[str, Any]]) -> None:
    """Write `name  value` lines, the values aligned; pairs whose value is empty are left out."""
    shown = [(escape(name), escape(text(value))) for name, value in values if value not in (None, "")]
    width = max((_width(name) for name, _ in shown), default=0)
    for name, value in shown:
        sys.stdout.write(f"{name}{' ' * (width - _width(name))}{_GAP}{value}\n")


def text(value: Any) -> str:
    """One value as a person reads it: four significant decimals, yes and no, nested ones as JSON, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return decimal(value)
    if isinstance(value, list | dict | bytes):
        return str(_field(value))
    return str(getattr(value, "value", value))


def given(value: Any) -> str:
    """A value as it was given: a number with the digits that give it back."""
    return repr(value) if isinstance(value, float) and math.isfinite(value) else text(value)


def decimal(value: float) -> str:
    """A number with as many digits as say something."""
    if not math.isfinite(value):
        return str(_number(value))
    if value == int(value) and abs(value) < 1e15:
        return str(int(value))
    return f"{value:.4f}" if 0.001 <= abs(value) < 1e5 else f"{value:.4g}"


def seconds(value: float | None) -> str:
    """A duration."""
    if value is None:
        return ""
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def size(value: int | None) -> str:
    """A number of bytes."""
    if value is None:
        return ""
    number = float(value)
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" or number >= 100 else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def local_time(stamp: str) -> str:
    """A UTC time stamp in the local zone, to the second; today's without the date."""
    from datetime import datetime

    try:
        moment = datetime.fromisoformat(stamp).astimezone()
    except ValueError:
        return stamp
    today = datetime.now().astimezone().date()
    return moment.strftime("%H:%M:%S" if moment.date() == today else "%Y-%m-%d %H:%M")


def escape(value: str) -> str:
    """Show control characters instead of sending them to the terminal."""
    if value.isprintable():
        return value
    return "".join(character if _harmless(character) else _escaped(character) for character in value)


def _harmless(character: str) -> bool:
    # A lone surrogate is a byte of a file name that is not UTF-8: the stream writes it back as that byte.
    return character.isprintable() or "\udc80" <= character <= "\udcff"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def unicode() -> bool:
    """Whether stdout can show more than ASCII."""
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


def terminal_width() -> int | None:
    """Columns of the terminal stdout is, None when it is not one."""
    if not sys.stdout.isatty():
        return None
    try:
        return int(os.environ["COLUMNS"])
    except (KeyError, ValueError):
        try:
            return os.get_terminal_size(sys.stdout.fileno()).columns or 80
        except OSError:
            return 80


def _fit(widths: list[int], heads: Sequence[Column], limit: int) -> list[int]:
    """Take columns' widths back, the widest first, until the row fits or nothing more can be cut."""
    fitted = list(widths)
    over = sum(fitted) + len(_GAP) * (len(fitted) - 1) - limit
    while over > 0:
        flexible = [index for index, head in enumerate(heads) if not head.keep and fitted[index] > _NARROWEST]
        if not flexible:
            break
        widest = max(flexible, key=lambda index: fitted[index])
        fitted[widest] -= 1
        over -= 1
    return fitted


def _cell(value: str, width: int, head: Column) -> str:
    if _width(value) > width:
        value = _cut(value, width)
    padding = " " * (width - _width(value))
    return padding + value if head.right else value + padding


def _cut(value: str, width: int) -> str:
    kept = ""
    for character in value:
        if _width(kept + character) > width - 1:
            break
        kept += character
    return kept + "…"


def _width(value: str) -> int:
    if value.isascii():
        return len(value)
    import unicodedata  # 1 ms, and only for text that needs it

    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in value
    )
