"""How values read on screen: times, durations, numbers, states. Values in, text out; the clock is passed in."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from typing import Any

from textual.content import Content

MUTED = "$muted"
FAINT = "$faint"
"""Of the theme: Textual's own `$text-muted` asks for a background, which a text within a widget does not know."""
STRONG = "bold"
GOOD = "$success"
BAD = "$error"
WARN = "$warning"
LIVE = "$primary"

_STATES = {
    "running": ("●", LIVE),
    "done": ("✓", GOOD),
    "failed": ("✗", BAD),
    "cancelled": ("○", MUTED),
    "crashed": ("!", BAD),
    "reused": ("≡", MUTED),
    "waiting": ("·", MUTED),
}
_LOWER_IS_BETTER = re.compile(r"loss|error|rmse|mae|mse|brier|seconds", re.IGNORECASE)
_HIGHER_IS_BETTER = re.compile(r"auc|acc|f1|precision|recall|r2|score", re.IGNORECASE)
_VERDICTS = {"pass": ("✓", GOOD), "fail": ("✗", BAD), "inconclusive": ("?", WARN)}
_VERSION_STATES = {"approved": GOOD, "rejected": BAD, "retired": FAINT}


def state_mark(state: str) -> Content:
    """The one-cell mark of a run's or step's state; its shape tells it apart without colour."""
    glyph, style = _STATES.get(state, ("·", MUTED))
    return Content.styled(glyph, style)


def state_text(state: str) -> Content:
    """The mark and the word."""
    glyph, style = _STATES.get(state, ("·", MUTED))
    return Content.styled(f"{glyph} {state}", style)


def verdict_text(verdict: str) -> Content:
    """A verdict with its mark, or a dash when there is none."""
    if not verdict:
        return Content.styled("–", FAINT)
    glyph, style = _VERDICTS.get(verdict, ("·", MUTED))
    return Content.styled(f"{glyph} {verdict}", style)


def verdict_style(verdict: str) -> str:
    """The colour that goes with a verdict's word."""
    return _VERDICTS.get(verdict, ("", MUTED))[1]


def version_state(state: str) -> Content:
    """A model version's state."""
    return Content.styled(state, _VERSION_STATES.get(state, MUTED))


def moment(iso: str) -> datetime | None:
    """The instant that a stored UTC timestamp names, or None when it names none."""
    try:
        parsed = datetime.fromisoformat(iso.replace("Z", "+00:00"))
    except ValueError:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=timezone.utc)


def ago(iso: str, now: datetime) -> str:
    """How long ago, as a person would say it; a date when it is over a week."""
    then = moment(iso)
    if then is None:
        return ""
    seconds = (now - then).total_seconds()
    if seconds < 5:
        return "now"
    for limit, size, unit in ((60, 1, "s"), (3600, 60, "min"), (86400, 3600, "h"), (7 * 86400, 86400, "d")):
        if seconds < limit:
            return f"{int(seconds // size)} {unit}"
    local = then.astimezone()
    return f"{local.day} {local:%b}" if local.year == now.astimezone().year else f"{local:%Y-%m-%d}"


def local_time(iso: str) -> str:
    """Date and time on this machine's clock."""
    then = moment(iso)
    return f"{then.astimezone():%Y-%m-%d %H:%M:%S}" if then else ""


def duration(seconds: float | None) -> str:
    """A length of time, short enough for a column."""
    if seconds is None or not math.isfinite(seconds):
        return ""
    if seconds < 1:
        return f"{max(seconds, 0) * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def number(value: float | None, *, signed: bool = False) -> str:
    """A metric's value: four places for what lies near one, short forms elsewhere."""
    if value is None:
        return ""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    size = abs(value)
    if size == 0 or (size == int(size) and 1 < size < 1_000_000):
        text = f"{int(size):,}"
    elif size >= 1_000_000 or size < 0.0001:
        text = f"{size:.2e}"
    elif size >= 1000:
        text = f"{size:,.0f}"
    elif size >= 100:
        text = f"{size:.1f}"
    elif size >= 10:
        text = f"{size:.2f}"
    else:
        text = f"{size:.4f}"
    if value < 0:
        return "−" + text
    return "+" + text if signed and size else text


def interval(low: float | None, high: float | None, *, signed: bool = False) -> str:
    """A confidence interval in brackets, or nothing."""
    if low is None or high is None:
        return ""
    return f"[{number(low, signed=signed)}, {number(high, signed=signed)}]"


def size(amount: int | None) -> str:
    """Bytes for people."""
    if amount is None:
        return ""
    value = float(amount)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def short(value: Any, width: int = 60) -> str:
    """A parameter's value on one line."""
    if isinstance(value, float):
        text = repr(value)
    elif isinstance(value, str):
        text = value
    else:
        text = json.dumps(value, ensure_ascii=False, default=str)
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 1] + "…"


def lines(parts: Iterable[Content | str]) -> Content:
    """One text of several lines."""
    return Content("\n").join(list(parts))


def facts(pairs: Sequence[tuple[str, Content | str]], *, gap: int = 2, style: str = MUTED) -> Content:
    """Names in one column, muted; values beside them. Pairs without a value are left out."""
    shown = [(name, value) for name, value in pairs if str(value)]
    width = max((len(name) for name, _ in shown), default=0) + gap
    return lines(Content.assemble((name.ljust(width), style), value) for name, value in shown)


def flow(parts: Iterable[str], width: int, *, between: str = "  ·  ") -> list[str]:
    """Parts on as few lines as they need, broken only between them."""
    rows: list[str] = []
    for part in parts:
        if rows and len(rows[-1]) + len(between) + len(part) <= width:
            rows[-1] += between + part
        else:
            rows.append(part)
    return rows


def lower_is_better(metric: str) -> bool:
    """Whether a metric's name says that less is better."""
    return _LOWER_IS_BETTER.search(metric) is not None


def higher_is_better(metric: str) -> bool:
    """Whether a metric's name says that more is better."""
    return not lower_is_better(metric) and _HIGHER_IS_BETTER.search(metric) is not None


def empty(what: str, command: str = "", then: str = "") -> Content:
    """What an empty place says: why it is empty, and the command that fills it."""
    parts: list[Content | tuple[str, str] | str] = [(what, MUTED)]
    if command:
        parts += [("  →  ", FAINT), (command, f"{STRONG} {LIVE}")]
    if then:
        parts += [("  " + then, MUTED)]
    return Content.assemble(*parts)
