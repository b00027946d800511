"""Runs as table rows: which columns there are and what stands in them, the same on every screen that lists runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime

from textual.content import Content

from mlops_local.domain.runs import Run, RunState
from mlops_local.tui import words
from mlops_local.tui.views import LiveRun
from mlops_local.tui.widgets.braille import sparkline
from mlops_local.tui.widgets.grid import Column, Row

METRICS = 6
"""Metric columns at most; narrow screens show fewer."""


def metric_keys(runs: Sequence[Run], first: Sequence[str] = ()) -> list[str]:
    """The metrics worth a column: those asked for, then those most runs have."""
    seen = Counter(key for run in runs for key in run.metrics)
    ordered = sorted(seen, key=lambda key: (-seen[key], key))
    return [*(key for key in first if key in seen), *(key for key in ordered if key not in first)][:METRICS]


def columns(keys: Sequence[str]) -> list[Column]:
    """The columns of a list of runs with these metrics."""
    return [
        Column("state", "", 1),
        Column("name", "run", 16, grow=1),
        Column("id", "id", 8, rank=30),
        *(
            Column("metric." + key, key, max(8, min(14, len(key))), right=True, rank=10 + place)
            for place, key in enumerate(keys)
        ),
        Column("seconds", "took", 8, right=True, rank=5),
        Column("started", "when", 7, right=True, rank=1),
        Column("message", "message", 24, grow=2, rank=40),
    ]


def row(run: Run, keys: Sequence[str], now: datetime, live: LiveRun | None = None) -> Row:
    """One run as a row; what the journal's tail says wins over the database."""
    metrics: Mapping[str, float] = {**run.metrics, **live.metrics} if live else run.metrics
    running = run.state is RunState.RUNNING
    cells: dict[str, Content | str] = {
        "state": words.state_mark(run.state.value),
        "name": Content.styled(run.name, words.STRONG) if running else run.name,
        "id": Content.styled(run.short, words.MUTED),
        "seconds": Content.styled(words.duration(_seconds(run, now)), words.LIVE if running else words.MUTED),
        "started": Content.styled(words.ago(run.started, now), words.MUTED),
        "message": Content.styled(run.message or (run.error.splitlines() or [""])[0], words.MUTED),
    }
    for key in keys:
        cells["metric." + key] = words.number(metrics.get(key))
    if running and live and live.curves and not run.message:
        longest = max(live.curves, key=lambda curve: len(curve.steps))
        cells["message"] = Content.assemble((sparkline(longest.values, 16), words.LIVE), (f" {longest.key}", words.MUTED))
    return Row(run.id, cells)


def _seconds(run: Run, now: datetime) -> float | None:
    started = words.moment(run.started)
    if run.seconds is None and run.state is RunState.RUNNING and started:
        return max(0.0, (now - started).total_seconds())
    return run.seconds
