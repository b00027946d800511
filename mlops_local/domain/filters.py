"""The language that chooses runs, as in `metric.auc > 0.7 and (param.lr in (.1, .3) or not tag.team = 'a')`. Pure.

Text becomes a small tree and back. What the names in it mean is `fields`' to say, and how it is asked the store's.

    expression  = conjunction { "or" conjunction }
    conjunction = factor { "and" factor }
    factor      = "not" factor | "(" expression ")" | condition
    condition   = FIELD [ OPERATOR value | ["not"] "in" "(" value { "," value } ")" | "is" ["not"] "null" ]
    value       = 'text' | "text" | word | number | true | false | null | now() [ ("+" | "-") interval N UNIT ]

A condition is true or false, never unknown: on a value that is missing every comparison is false, and `not` turns it round.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterator
from typing import NoReturn, TypeAlias

from mlops_local.domain import sql
from mlops_local.domain.errors import UsageError
from mlops_local.domain.records import dataclass

FIELDS = {
    "id": "text",
    "name": "text",
    "kind": "text",
    "state": "text",
    "started": "time",
    "ended": "time",
    "seconds": "number",
    "message": "text",
    "error": "text",
    "commit": "text",
    "dirty": "flag",
    "incomplete": "flag",
}
"""What every run has -> the kind of its values. `metric.NAME` is a number, `param.NAME` any JSON value, `tag.NAME` text."""
SPACES = ("metric", "param", "tag")
EXAMPLE = "for example: state = failed or (metric.auc > 0.7 and param.gbm.num_leaves in (31, 63))"
UNITS = ("second", "minute", "hour", "day", "week", "month", "year")
DEEPEST = 50
"""Brackets and `not` within each other."""
LONGEST = 10_000
"""Characters: a longer filter is a mistake, not a question."""


@dataclass(frozen=True)
class Moment:
    """`now()`, or so much before or after it."""

    amount: int = 0
    """Negative: before."""
    unit: str = "second"


Value: TypeAlias = "str | float | bool | Moment | None"


@dataclass(frozen=True)
class Comparison:
    """A field against a value; `op` is one of = != < <= > >= ~ (contains)."""

    field: str
    op: str
    value: Value


@dataclass(frozen=True)
class OneOf:
    """A field against several values; `out`: `not in`."""

    field: str
    values: tuple[Value, ...]
    out: bool = False


@dataclass(frozen=True)
class Has:
    """A field alone: is there one, or is it true."""

    field: str


@dataclass(frozen=True)
class Not:
    """What does not hold."""

    part: Expression


@dataclass(frozen=True)
class All:
    """Two or more that all hold. None of them is an All itself."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True)
class Either:
    """Two or more of which one holds. None of them is an Either itself."""

    parts: tuple[Expression, ...]


Condition: TypeAlias = "Comparison | OneOf | Has"
Expression: TypeAlias = "Condition | Not | All | Either"

_OPERATORS = {"=": "=", "==": "=", "!=": "!=", "<>": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">=", "~": "~"}
_WORDS = frozenset({"and", "or", "not", "in", "is"})
_TOKEN = re.compile(
    r"""\s*(?: (?P<moment>now\(\s*\)(?:\s*[+-]\s*interval\s+'?\s*\d+\s*'?\s*[A-Za-z]+\s*'?)?(?![^\s(),]))
            |  (?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")
            |  (?P<op>==|!=|<>|<=|>=|=|<|>|~)
            |  (?P<mark>[(),])
            |  (?P<word>(?:metric|param|tag)\."(?:[^"]|"")*"|[^\s'"=<>!~(),]+) )""",
    re.VERBOSE | re.IGNORECASE,
)
_NUMBER = re.compile(r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|inf|infinity|nan)", re.IGNORECASE)
_MOMENT = re.compile(
    r"now\(\s*\)(?:\s*(?P<sign>[+-])\s*interval\s+'?\s*(?P<amount>\d+)\s*'?\s*(?P<unit>[A-Za-z]+))?", re.IGNORECASE
)
_PLAIN = re.compile(r"[^\s'\"=<>!~(),]+")


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    at: int

    def says(self, *words: str) -> bool:
        return self.kind in {"word", "mark"} and self.text.lower() in words


def parse(text: str) -> Expression | None:
    """Read a filter; None for an empty one. Raises UsageError, with the place."""
    if len(text) > LONGEST:
        raise UsageError(f"the filter has {len(text):,} characters; {LONGEST:,} are allowed", hint=EXAMPLE)
    reader = _Reader(text)
    if reader.done:
        return None
    found = reader.expression(0)
    if not reader.done:
        token = reader.next()
        _fail(text, token.at, f"expected `and` or `or` before {token.text!r}")
    return found


def format(expression: Expression | None) -> str:
    """Write a filter as text that `parse` reads as the same."""
    match expression:
        case None:
            return ""
        case Either(parts):
            return " or ".join(format(part) for part in parts)
        case All(parts):
            return " and ".join(_bracketed(part, Either) for part in parts)
        case Not(part):
            return f"not {_bracketed(part, Either, All)}"
        case Has(field):
            return _field(field)
        case OneOf(field, values, out):
            return f"{_field(field)} {'not in' if out else 'in'} ({', '.join(map(literal, values))})"
        case Comparison(field, op, value):
            return f"{_field(field)} {op} {literal(value)}"


def literal(value: Value) -> str:
    """Write a value as a filter has it."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return sql.quote(value)
        case Moment(0):
            return "now()"
        case Moment(amount, unit):
            return f"now() {'-' if amount < 0 else '+'} interval {abs(amount)} {unit}"
        case _:
            return str(int(value)) if math.isfinite(value) and value.is_integer() and abs(value) < 1e15 else repr(value)


def conditions(expression: Expression | None) -> Iterator[Condition]:
    """Yield every condition, from left to right."""
    match expression:
        case None:
            return
        case All(parts) | Either(parts):
            for part in parts:
                yield from conditions(part)
        case Not(part):
            yield from conditions(part)
        case _:
            yield expression


def each(expression: Expression, change: Callable[[Condition], Condition]) -> Expression:
    """Return the same expression with every condition changed."""
    match expression:
        case All(parts):
            return All(tuple(each(part, change) for part in parts))
        case Either(parts):
            return Either(tuple(each(part, change) for part in parts))
        case Not(part):
            return Not(each(part, change))
        case _:
            return change(expression)


def _bracketed(part: Expression, *kinds: type) -> str:
    return f"({format(part)})" if isinstance(part, kinds) else format(part)


def _field(name: str) -> str:
    space, dot, rest = name.partition(".")
    if _PLAIN.fullmatch(name) and name.lower() not in _WORDS:
        return name
    return f"{space}{dot}{sql.name(rest)}"


class _Reader:
    """Recursive descent over the tokens."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(_tokens(text))
        self._at = 0

    @property
    def done(self) -> bool:
        return self._at == len(self._tokens)

    def next(self) -> _Token:
        self._at += 1
        return self._tokens[self._at - 1]

    def expression(self, depth: int) -> Expression:
        parts = [self._conjunction(depth)]
        while self._take("or"):
            parts.append(self._conjunction(depth))
        return parts[0] if len(parts) == 1 else Either(tuple(_flat(parts, Either)))

    def _conjunction(self, depth: int) -> Expression:
        parts = [self._factor(depth)]
        while self._take("and"):
            parts.append(self._factor(depth))
        return parts[0] if len(parts) == 1 else All(tuple(_flat(parts, All)))

    def _factor(self, depth: int) -> Expression:
        if depth > DEEPEST:
            self._fail("brackets are nested too deep")
        if self._take("not"):
            return Not(self._factor(depth + 1))
        if self._take("("):
            inner = self.expression(depth + 1)
            self._expect(")", "a bracket is not closed")
            return inner
        return self._condition()

    def _condition(self) -> Condition:
        if self.done:
            last = self._tokens[-1]
            self._fail(f"a comparison is missing after `{last.text}`")
        token = self.next()
        if token.kind != "word" or token.text.lower() in _WORDS:
            _fail(self._text, token.at, f"expected a field, got {token.text!r}")
        field = _unquoted(token.text)
        if not self.done and self._peek().kind == "op":
            op = self.next()
            return Comparison(field, _OPERATORS[op.text], self._value(field, op.text))
        if self._take("is"):
            out = self._take("not")
            self._expect("null", "expected `null` after `is`")
            return Comparison(field, "!=" if out else "=", None)
        out = self._take("not")
        if out or (not self.done and self._peek().says("in")):
            self._expect("in", "expected `in` after `not`")
            return OneOf(field, self._values(field), out)
        return Has(field)

    def _values(self, field: str) -> tuple[Value, ...]:
        self._expect("(", "expected a list after `in`, as in (31, 63)")
        found = [self._value(field, "(")]
        while self._take(","):
            found.append(self._value(field, ","))
        self._expect(")", "the list after `in` is not closed")
        return tuple(found)

    def _value(self, field: str, after: str) -> Value:
        if self.done:
            self._fail(f"a value is missing after {after!r}")
        token = self.next()
        match token.kind:
            case "text":
                quote = token.text[0]
                return token.text[1:-1].replace(quote * 2, quote)
            case "moment":
                return self._moment(token)
            case "word" if token.text.lower() not in _WORDS:
                return _plain(token.text, FIELDS.get(field, ""))
            case _:
                _fail(self._text, token.at, f"a value is missing after {after!r}")

    def _moment(self, token: _Token) -> Moment:
        found = _MOMENT.match(token.text)
        assert found is not None  # the tokens' own pattern
        if found["unit"] is None:
            return Moment()
        unit = found["unit"].lower().removesuffix("s")
        if unit not in UNITS:
            near = difflib.get_close_matches(unit, UNITS, n=1)
            raise UsageError(
                f"there is no interval in {found['unit']!r}",
                hint=f"did you mean {near[0]!r}?" if near else f"units: {', '.join(UNITS)}",
            )
        amount = int(found["amount"])
        if amount > 10**9:
            _fail(self._text, token.at, "the interval is too long")
        return Moment(-amount if found["sign"] == "-" else amount, unit) if amount else Moment()

    # -- tokens

    def _peek(self) -> _Token:
        return self._tokens[self._at]

    def _take(self, word: str) -> bool:
        if self.done or not self._peek().says(word):
            return False
        self._at += 1
        return True

    def _expect(self, word: str, problem: str) -> None:
        if not self._take(word):
            self._fail(problem)

    def _fail(self, problem: str) -> NoReturn:
        _fail(self._text, len(self._text) if self.done else self._peek().at, problem)


def _tokens(text: str) -> Iterator[_Token]:
    at, end = 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            _fail(text, at, "a quote is not closed" if text[at:].lstrip()[:1] in "'\"" else "cannot read this")
        kind = str(match.lastgroup)
        yield _Token(kind, match.group(kind), match.start(kind))
        at = match.end()


def _flat(parts: list[Expression], kind: type[All] | type[Either]) -> Iterator[Expression]:
    for part in parts:
        if isinstance(part, kind):
            yield from part.parts
        else:
            yield part


def _unquoted(word: str) -> str:
    space, dot, name = word.partition(".")
    if len(name) > 1 and name[0] == name[-1] == '"':
        name = name[1:-1].replace('""', '"')
    return f"{space.lower()}.{name}" if dot and space.lower() in SPACES else word


def _plain(word: str, kind: str) -> Value:
    """A word as a constant, a number or itself. A commit of digits is no number."""
    if word.lower() in {"null", "none"}:
        return None
    if kind in {"text", "time"}:
        return word
    if word.lower() in {"true", "false"}:
        return word.lower() == "true"
    return float(word) if _NUMBER.fullmatch(word) else word


def _fail(text: str, at: int, problem: str) -> NoReturn:
    place = f"{text[:at]}⟨here⟩{text[at:]}" if text else ""
    raise UsageError(f"cannot read the filter: {problem}" + (f": {place}" if place else ""), hint=EXAMPLE)
