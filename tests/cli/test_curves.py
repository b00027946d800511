from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_local.cli import curves
from mlops_local.domain.runs import Curve


@given(st.lists(st.floats(), max_size=60), st.integers(1, 30))
def test_a_curve_of_any_values_is_one_short_line(values: list[float], width: int) -> None:
    """NaN, infinity and the largest numbers draw something of the right width and fail nothing."""
    assert len(curves.spark(values, width)) == min(len(values), width)


@pytest.mark.parametrize(
    ("values", "shown"),
    [([0, 1, 2, 3, 4, 5, 6, 7], "_.-=+*#@"), ([7, 0], "@_"), ([1, 1], "__"), ([math.nan, 1, 0], " @_"), ([], "")],
)
def test_a_curve_rises_where_its_values_do(monkeypatch: pytest.MonkeyPatch, values: list[float], shown: str) -> None:
    """The lowest value is the lowest block, a value that is no number a gap; ASCII where the terminal has no more."""
    monkeypatch.setattr("mlops_local.cli.output.unicode", lambda: False)
    assert curves.spark(values, 8) == shown


def test_a_chart_fits_eighty_columns(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With its numbers at the left and the steps below; a hostile name moves no cursor; without a number it stays empty."""
    monkeypatch.setattr("mlops_local.cli.output.unicode", lambda: True)
    steps = tuple(float(step) for step in range(1000))
    for curve in (
        Curve("r", "loss\x1b[2J", steps, tuple(1e6 / (step + 1) for step in steps)),
        Curve("r", "odd", (0.0,), (math.nan,)),
    ):
        curves.chart(curve)
        curves.table([curve])
        shown = capsys.readouterr().out
        assert max(map(len, shown.splitlines())) <= 80 and "\x1b" not in shown
        assert ("999" in shown) == (curve.key != "odd")
