"""Figures as text: what a column's extremes are called."""

from __future__ import annotations

import polars as pl
import pytest

from mlops_local.engines.data import summary


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (0, pl.Date(), "1970-01-01"),
        (-719_162, pl.Date(), "0001-01-01"),
        (2_932_896, pl.Date(), "9999-12-31"),
        (2**31 - 1, pl.Date(), "5881580-07-11"),
        (-(2**31) + 1, pl.Date(), "-5877641-06-24"),
        (1_000_000, pl.Datetime("us", "Europe/Berlin"), "1970-01-01T01:00:01+01:00"),
        (2**63 - 1, pl.Datetime("us", "Europe/Berlin"), "294247-01-10T04:00:54.775807"),
        (253_402_300_799_000, pl.Datetime("ms", "Asia/Tokyo"), "9999-12-31T23:59:59.000"),
        (2**63 - 1, pl.Datetime("ns"), "2262-04-11T23:47:16.854775"),
        (90_000_000, pl.Duration("us"), "0:01:30"),
        (2**63 - 1, pl.Duration("ms"), "9223372036854775807 ms"),
        (3_600_000_000_000, pl.Time(), "01:00:00"),
    ],
)
def test_any_time_has_a_text(value: int, kind: pl.DataType, text: str) -> None:
    """As ISO 8601, also in years that Python has not, where the library that reads the rows would end the process."""
    assert summary.shown(value, kind) == text
