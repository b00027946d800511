"""Rules that a profile suggests: those that hold, and none that a person would have to take back at once."""

from __future__ import annotations

import tomllib

from hypothesis import example, given
from hypothesis import strategies as st

from mlops_local.domain.assets import ColumnProfile, Snapshot
from mlops_local.domain.graph import Source
from mlops_local.engines.data import suggestions


def _suggested(*columns: ColumnProfile, source: Source | None = None) -> dict[str, object]:
    source = source or Source("s", "s.csv")
    held = Snapshot("0" * 64, "s", (), rows=9, bytes=9, columns=columns)
    found: dict[str, object] = tomllib.loads(suggestions.rules(source, held))["data"]["s"]["checks"]
    return found


@example(low=-56.800000000000004, high=56.800000000000004)
@given(low=st.floats(allow_nan=False, allow_infinity=False), high=st.floats(allow_nan=False, allow_infinity=False))
def test_a_suggested_range_holds_every_value(low: float, high: float) -> None:
    """Rounded to few digits, but away from the values."""
    low, high = sorted((low, high))
    found = _suggested(ColumnProfile("x", "Float64", min=repr(low), max=repr(high), mean=0.0))
    match found.get("range"):
        case {"x": [float(least), float(most)]}:
            assert least <= low and high <= most
        case other:
            raise AssertionError(other)


def test_no_rule_is_suggested_that_cannot_be_told() -> None:
    """Numbers with NaN or without an end have no range, text that was cut or of more values than are known no list."""
    few = (("a", 5), ("b", 4))
    cut = (("a", 5), ("b" * 59 + "…", 4))
    found = _suggested(
        ColumnProfile("nan", "Float64", nulls=1, min="0.0", max="1.0", mean=0.5, nans=1),
        ColumnProfile("inf", "Float64", nulls=1, min="0.0", max="inf", mean=0.5),
        ColumnProfile("cut", "String", nulls=1, distinct=2, top=cut),
        ColumnProfile("more", "String", nulls=1, distinct=3, top=few),
        ColumnProfile("kind", "String", nulls=1, distinct=2, top=few),
        ColumnProfile("name", "String", nulls=1, distinct=2, top=few),
        source=Source("s", "s.csv", private=("name",)),
    )
    assert found == {"row_count": {"min": 4}, "in": {"kind": ["a", "b"]}}
