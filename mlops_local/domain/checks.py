"""Rules a source's rows must obey, from `[data.NAME.checks]` in mlops.toml, and what breaks them; what a model should not know.

`parse` turns the table into rules and collects every problem. Python 3.10: imported with the project's configuration.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

ERROR, WARNING = "error", "warning"
LEAKAGE, OVERLAP = "leakage", "overlap"
"""Rules that nobody writes: a feature that tells the label by itself, rows of test that are in train."""
LONG = 200
"""Characters of a value that a finding keeps."""
_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 604800}


@dataclass(frozen=True)
class Check:
    """One rule."""

    kind: str
    """not_null, unique, range, in, regex, row_count, freshness, no_overlap or sql."""
    columns: tuple[str, ...] = ()
    value: Any = None
    """What the kind needs: bounds, values, a pattern, seconds, another source, an expression."""
    severity: str = ERROR

    @property
    def text(self) -> str:
        """The rule on one line, as a person reads it."""
        named = ", ".join(self.columns)
        match self.kind:
            case "range" | "row_count":
                return f"{self.kind} {named + ' ' if named else ''}{_bounds(self.value)}"
            case "in":
                return f"in {named} {', '.join(str(item) or repr(item) for item in self.value)}"
            case "freshness":
                return f"freshness {duration(self.value)}"
            case "sql" | "no_overlap" | "regex":
                return f"{self.kind} {named + ' ' if named else ''}{self.value}"
        return f"{self.kind} {named}"


@dataclass(frozen=True)
class Finding:
    """A rule that a snapshot breaks, or a model's features."""

    source: str
    """Empty of a finding on a model, whose rows come from several."""
    snapshot: str
    rule: str
    severity: str
    columns: tuple[str, ...] = ()
    failed: int = 0
    """Rows that break it."""
    rows: int = 0
    """Rows there are."""
    note: str = ""
    """What is not said by the counts."""
    samples: tuple[Mapping[str, Any], ...] = field(default=(), compare=False)
    """Some of those rows: their key and the columns of the rule; private columns hidden."""
    model: str = ""
    """The model whose features they are; empty of a finding on a source."""

    @property
    def line(self) -> str:
        """Everything but the rows, on one line."""
        counted = f"{self.failed:,} of {self.rows:,} rows" if not self.note else self.note
        return f"{self.source or self.model}: {self.rule}: {counted}"


def to_json(finding: Finding) -> dict[str, Any]:
    """The finding as JSON values; what JSON has no word for as text."""
    value = asdict(finding)
    value["samples"] = [{name: _plain(item) for name, item in row.items()} for row in finding.samples]
    return value


def from_json(value: Mapping[str, Any]) -> Finding:
    """Back from `to_json`. Raises TypeError, KeyError."""
    return Finding(**{**value, "columns": tuple(value["columns"]), "samples": tuple(value["samples"])})


def of_report(report: Mapping[str, Any]) -> tuple[Finding, ...]:
    """What a step found on its model, from what it said of itself."""
    return tuple(from_json(item) for item in report.get("findings", ()))


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else str(value)
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def parse(table: Any, where: str, problems: list[str]) -> tuple[Check, ...]:
    """Read the rules of one source.

    Args:
        table: of `[data.NAME.checks]`.
        where: its place in mlops.toml.
        problems: told what cannot be, one line each.
    """
    if not isinstance(table, Mapping):
        problems.append(f"{where}: expected a table of checks")
        return ()
    found: list[Check] = []
    for kind, value in table.items():
        if kind == "warn":
            continue
        if kind not in _KINDS:
            near = difflib.get_close_matches(kind, [*_KINDS, "warn"], n=1)
            known = f", did you mean '{near[0]}'?" if near else f"; known: {', '.join(_KINDS)}"
            problems.append(f"{where}.{kind}: no such check{known}")
            continue
        try:
            found += _KINDS[kind](kind, value)
        except _Wrong as error:
            problems.append(f"{where}.{kind}: {error}")
    return _severe(found, table.get("warn", []), where, problems)


def _severe(found: Sequence[Check], warn: Any, where: str, problems: list[str]) -> tuple[Check, ...]:
    """The checks with their severities: those that `warn` names, by kind or by kind and column, only warn."""
    names = [warn] if isinstance(warn, str) else warn
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        problems.append(f"{where}.warn: expected names of checks, as in ['freshness', 'range.age']")
        return tuple(found)
    known = {name for check in found for name in _names(check)}
    problems += [f"{where}.warn: there is no check {name!r} here" for name in names if name not in known]
    return tuple(
        Check(check.kind, check.columns, check.value, WARNING if _names(check) & set(names) else ERROR) for check in found
    )


def _names(check: Check) -> set[str]:
    return {check.kind, f"{check.kind}.{','.join(check.columns)}"}


class _Wrong(ValueError):
    """A check's value cannot be; the text says what was expected."""


def _columns(value: Any) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise _Wrong(f"expected names of columns, got {value!r}")
    return tuple(names)


def _each_column(kind: str, value: Any) -> list[Check]:
    return [Check(kind, (name,)) for name in _columns(value)]


def _together(kind: str, value: Any) -> list[Check]:
    if isinstance(value, list) and value and all(isinstance(item, list) for item in value):
        return [Check(kind, _columns(item)) for item in value]
    return [Check(kind, _columns(value))]


def _by_column(read: Callable[[Any], Any]) -> Callable[[str, Any], list[Check]]:
    def checks(kind: str, value: Any) -> list[Check]:
        if not isinstance(value, Mapping):
            raise _Wrong(f"expected a table of columns, as in [… .{kind}], got {value!r}")
        return [Check(kind, (column,), read(item)) for column, item in value.items()]

    return checks


def _range(value: Any) -> tuple[Any, Any]:
    if isinstance(value, Mapping) and value and set(value) <= {"min", "max"}:
        low, high = value.get("min"), value.get("max")
    elif isinstance(value, list) and len(value) == 2:
        low, high = value
    else:
        raise _Wrong(f"expected [least, most] or {{min = …}} or {{max = …}}, got {value!r}")
    with suppress(TypeError):  # bounds of two types: what the column says of them is for the check to find out
        if low is not None and high is not None and low > high:
            raise _Wrong(f"{low} is more than {high}: no value lies between")
    return low, high


def _count(kind: str, value: Any) -> list[Check]:
    low, high = (value, None) if isinstance(value, int) and not isinstance(value, bool) else _range(value)
    if not all(bound is None or (isinstance(bound, int) and bound >= 0) for bound in (low, high)):
        raise _Wrong(f"expected numbers of rows, got {value!r}")
    return [Check(kind, (), (low, high))]


def _choices(value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list) or not value:
        raise _Wrong(f"expected a list of values, got {value!r}")
    return tuple(value)


def _pattern(value: Any) -> str:
    if not isinstance(value, str):
        raise _Wrong(f"expected a regular expression, got {value!r}")
    return value


def _freshness(kind: str, value: Any) -> list[Check]:
    return [Check(kind, (), seconds(value))]


def _texts(expected: str) -> Callable[[str, Any], list[Check]]:
    def checks(kind: str, value: Any) -> list[Check]:
        texts = value if isinstance(value, list) and value else [value]
        if not all(isinstance(text, str) and text.strip() for text in texts):
            raise _Wrong(f"expected {expected}, got {value!r}")
        return [Check(kind, (), text) for text in texts]

    return checks


_KINDS: dict[str, Callable[[str, Any], list[Check]]] = {
    "not_null": _each_column,
    "unique": _together,
    "range": _by_column(_range),
    "in": _by_column(_choices),
    "regex": _by_column(_pattern),
    "row_count": _count,
    "freshness": _freshness,
    "no_overlap": _texts("names of sources"),
    "sql": _texts("conditions in SQL"),
}


def seconds(value: Any) -> float:
    """Read a duration: `90s`, `30min`, `12h`, `45d`, `2w`. Raises ValueError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(s|min|h|d|w)", value) if isinstance(value, str) else None
    if found is None or not float(found[1]):
        raise _Wrong(f"expected a duration, as 30min, 12h, 45d or 2w, got {value!r}")
    return float(found[1]) * _UNITS[found[2]]


def duration(value: float) -> str:
    """A duration in days, hours, minutes or seconds."""
    for unit in ("d", "h", "min"):
        if value >= _UNITS[unit]:
            return (
                f"{value / _UNITS[unit]:.3g} {unit}" if value < 1000 * _UNITS[unit] else f"{value / _UNITS[unit]:,.0f} {unit}"
            )
    return f"{value:.3g} s"


def _bounds(value: tuple[Any, Any]) -> str:
    low, high = value
    if low is None:
        return f"at most {high}"
    return f"at least {low}" if high is None else f"{low} to {high}"
