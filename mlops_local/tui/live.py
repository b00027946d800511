"""What running runs do right now, gathered from journal lines as they are written. Lines in, views out; no files here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from mlops_local.domain import events
from mlops_local.domain.runs import Curve, StepRun
from mlops_local.tui.views import LiveRun

POINTS = 1024
"""Points kept of one curve; past that every second one goes."""
ENDED_KEPT = 32


@dataclass
class _Line:
    """One curve, thinned as it grows."""

    xs: list[float] = field(default_factory=list)
    ys: list[float] = field(default_factory=list)
    stride: int = 1
    seen: int = 0
    last: tuple[float, float] | None = None

    def add(self, x: float, y: float) -> None:
        if self.seen % self.stride == 0:
            self.xs.append(x)
            self.ys.append(y)
        self.seen += 1
        self.last = (x, y)
        if len(self.xs) > POINTS:
            del self.xs[1::2]
            del self.ys[1::2]
            self.stride *= 2

    def points(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        if self.last and self.xs and self.xs[-1] != self.last[0]:
            return (*self.xs, self.last[0]), (*self.ys, self.last[1])
        return tuple(self.xs), tuple(self.ys)


@dataclass
class _Book:
    name: str = ""
    state: str = "running"
    started: str = ""
    lines: dict[str, _Line] = field(default_factory=dict)
    steps: dict[str, StepRun] = field(default_factory=dict)


class LiveRuns:
    """Runs seen in the tails so far."""

    def __init__(self) -> None:
        self._books: dict[str, _Book] = {}

    def absorb(self, lines: Iterable[Mapping[str, Any]]) -> tuple[LiveRun, ...]:
        """Take new journal lines; return the runs they changed."""
        changed: dict[str, None] = {}
        for line in lines:
            run = str(line.get("r") or line.get("run") or "")
            if run and self._take(run, line):
                changed[run] = None
        views = tuple(self._view(run) for run in changed)
        self._forget()
        return views

    def _take(self, run: str, line: Mapping[str, Any]) -> bool:
        book = self._books.setdefault(run, _Book())
        kind = line.get("k")
        if kind == events.METRIC:
            curve = book.lines.setdefault(str(line.get("key", "")), _Line())
            step = line.get("s")
            curve.add(_number(curve.seen if step is None else step), _number(line.get("x")))
        elif kind == events.RUN_STARTED:
            book.name = str(line.get("name", ""))
            book.started = _iso(line.get("t"))
        elif kind == events.RUN_ENDED:
            book.state = str(line.get("state", "done"))
        elif kind in {events.STEP_STARTED, events.STEP_ENDED}:
            step_run = _step(run, line)
            book.steps[step_run.name] = step_run
        else:
            return False
        return True

    def _view(self, run: str) -> LiveRun:
        book = self._books[run]
        curves = tuple(Curve(run, key, *line.points()) for key, line in book.lines.items())
        metrics = {key: line.last[1] for key, line in book.lines.items() if line.last}
        return LiveRun(run, book.name, book.state, book.started, metrics, tuple(book.steps.values()), curves)

    def _forget(self) -> None:
        ended = [run for run, book in self._books.items() if book.state != "running"]
        for run in ended[: max(0, len(ended) - ENDED_KEPT)]:
            del self._books[run]


def join(stored: Curve | None, live: Curve) -> Curve:
    """The stored part of a curve, continued by what the tail has seen since."""
    if stored is None or not stored.steps or not live.steps:
        return stored if stored is not None and not live.steps else live
    if live.steps[0] <= stored.steps[0]:
        return live
    kept = [(x, y) for x, y in zip(stored.steps, stored.values, strict=True) if x < live.steps[0]]
    return Curve(live.run, live.key, (*(x for x, _ in kept), *live.steps), (*(y for _, y in kept), *live.values))


def join_all(stored: Iterable[Curve], live: Iterable[Curve]) -> tuple[Curve, ...]:
    """Every curve of a run, stored and live parts joined."""
    curves = {curve.key: curve for curve in stored}
    for curve in live:
        curves[curve.key] = join(curves.get(curve.key), curve)
    return tuple(curves.values())


def _step(run: str, line: Mapping[str, Any]) -> StepRun:
    name = str(line.get("step", ""))
    if line.get("k") == events.STEP_STARTED:
        return StepRun(run, name, "running", reason=str(line.get("reason", "")), fingerprint=str(line.get("fingerprint", "")))
    result = line.get("result")
    seconds = result.get("seconds") if isinstance(result, Mapping) else None
    return StepRun(
        run,
        name,
        str(line.get("state", "done")),
        reason=str(line.get("reason", "")),
        seconds=seconds,
        error=str(line.get("error", "") or ""),
    )


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def _iso(micros: Any) -> str:
    if not isinstance(micros, int):
        return ""
    return datetime.fromtimestamp(micros / 1e6, timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")
