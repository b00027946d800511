"""What `mlops.rolling` and `mlops.kfold` take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import mlops_local as mlops
from mlops_local.domain.errors import ConfigError
from mlops_local.domain.splits import KFold, Rolling, duration, from_text, numbered, to_text, together, unfolded


@pytest.mark.parametrize(
    "folds", [Rolling("at", "1mo", 3, gap="2d"), KFold(5, ("carrier", "day"), True), KFold(3, stratify="kind")]
)
def test_a_split_travels_as_text(folds: Rolling | KFold) -> None:
    """What the declaration says comes back the same in the worker."""
    assert from_text(to_text(folds)) == folds


def test_lengths_have_one_number_and_one_unit() -> None:
    """Calendar units as polars writes them."""
    assert [duration(text, "test") for text in ("1mo", "12 d", "6h", "1q")] == [(1, "mo"), (12, "d"), (6, "h"), (1, "q")]


def test_a_step_in_a_fold_has_its_number() -> None:
    """And is known by its own name without it; brackets with anything else in them are not a fold."""
    assert numbered("delay.features", 2) == "delay.features[2]"
    assert unfolded("delay.features[2]") == "delay.features" and unfolded("gbm") == "gbm" and unfolded("a[b]") == "a[b]"
    assert unfolded("delay.split[12].train") == "delay.split.train"


def test_folds_of_a_step_are_shown_as_one() -> None:
    """A line that lists steps stays readable with many folds."""
    names = ["rows", "split[1]", "gbm[1]", "split[2]", "gbm[3]", "split[3]", "gbm", "mlp[2]"]
    assert together(names) == ["rows", "split[1-3]", "gbm[1,3]", "gbm", "mlp[2]"]


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: mlops.rolling("at", rows="r", test="1 moon"), "mlops.rolling: test: expected a length of time"),
        (lambda: mlops.rolling("at", rows="r", test="0d"), "expected a length of time"),
        (lambda: mlops.rolling("at", rows="r", test="1mo", gap="1mo2d"), "mlops.rolling: gap"),
        (lambda: mlops.rolling("at", rows="r", test="1mo", folds=0), "folds is a whole number of 1 or more, got 0"),
        (lambda: mlops.rolling("", rows="r", test="1mo"), "expected the name of a time column"),
        (lambda: mlops.kfold(2, rows="r"), "folds is a whole number of 3 or more, got 2"),
        (lambda: mlops.kfold(5, rows="r", stratify=3), "stratify is True or a column's name, got 3"),  # type: ignore[arg-type]
    ],
)
def test_what_makes_no_split_is_refused(make: Callable[[], Any], told: str) -> None:
    """At the line that says so, with what was expected."""
    with pytest.raises(ConfigError, match=told):
        make()
