"""Which curves belong on one chart, and the charts one above the other."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.containers import Vertical

from mlops_local.domain.runs import Curve
from mlops_local.tui.widgets.braille import Series
from mlops_local.tui.widgets.chart import Chart

PARTS = ("train", "training", "valid", "validation", "val", "test", "eval")


def split(key: str) -> tuple[str, str]:
    """A key as (chart, line): `valid/auc`, `valid.auc`, `valid_auc`, `auc.valid` are the line valid on the chart auc."""
    for mark in ("/", ".", "_", " "):
        head, found, tail = key.partition(mark)
        if found and head.lower() in PARTS:
            return tail, head
        head, found, tail = key.rpartition(mark)
        if found and tail.lower() in PARTS:
            return head, tail
    return key, ""


def charts_of(
    curves: Sequence[Curve], names: Sequence[str] = (), runs: Sequence[str] = ()
) -> list[tuple[str, tuple[Series, ...]]]:
    """Group curves into charts.

    Args:
        curves: of one run, or of several where `runs` is given.
        names: the runs' shown names, in the order of `runs`.
        runs: the runs that are laid over each other; a run keeps its colour on every chart.
    """
    groups: dict[str, list[Series]] = {}
    for curve in curves:
        if len(curve.steps) < 2:
            continue  # one value is a metric, and shown as one
        title, line = split(curve.key)
        if len(runs) > 1:
            slot = runs.index(curve.run)
            groups.setdefault(curve.key, []).append(Series(names[slot], curve.steps, curve.values, slot))
        else:
            lines = groups.setdefault(title, [])
            lines.append(Series(line, curve.steps, curve.values, len(lines)))
    return [(title, tuple(lines)) for title, lines in sorted(groups.items(), key=lambda group: -len(group[1][0].xs))]


class Curves(Vertical):
    """Charts one above the other; they are kept and only given other lines when the same ones are shown again."""

    DEFAULT_CSS = """
    Curves { height: auto; }
    Curves > Chart { margin-bottom: 1; }
    """

    def __init__(self, *, id: str | None = None, limit: int = 12) -> None:
        super().__init__(id=id)
        self._limit = limit
        self._log = False
        self._titles: list[str] = []

    def compose(self) -> ComposeResult:
        """Nothing yet."""
        yield from ()

    def show(self, charts: Sequence[tuple[str, tuple[Series, ...]]]) -> None:
        """Show these charts."""
        charts = list(charts)[: self._limit]
        titles = [title for title, _ in charts]
        present = list(self.query(Chart))
        for extra in present[len(charts) :]:
            extra.remove()
        for place, (title, lines) in enumerate(charts):
            if place < len(present):
                present[place].show(title, lines)
            else:
                chart = Chart(title, lines)
                chart.logarithmic = self._log
                self.mount(chart)
        self._titles = titles

    def toggle_log(self) -> None:
        """Linear or logarithmic, for all of them."""
        self._log = not self._log
        for chart in self.query(Chart):
            chart.logarithmic = self._log
