"""A model that learned its rows by heart is said to have."""

from __future__ import annotations

import pytest

from mlops_local.domain.project import parse
from mlops_local.services import gaps


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        ({"train": 0.95, "valid": 0.72}, "auc is 0.9500 on train and 0.7200 on valid: 0.2300 apart, max_gap is 0.1"),
        ({"train": 0.95, "held out": 0.7}, "auc is 0.9500 on train and 0.7000 on held out: 0.2500 apart, max_gap is 0.1"),
        ({"train": 0.75, "valid": 0.72}, ""),
        ({"train": 0.95}, ""),
        ({}, ""),
    ],
)
def test_a_wide_gap_is_said(seen: dict[str, float], told: str) -> None:
    """Both values, how far they are apart and the limit; nothing where it is kept, or where a value is missing."""
    config = parse({"models": {"delay": {"max_gap": 0.1}, "other": {}}})
    assert gaps.parted(config, "delay", "auc", {"seen": seen}) == told
    assert gaps.parted(config, "other", "auc", {"seen": seen}) == "", "no limit is set for it"
