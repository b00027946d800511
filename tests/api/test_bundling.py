"""What a script's model is judged by."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from mlops_local.api import bundling
from mlops_local.domain.errors import UsageError
from mlops_local.store.layout import Layout


@pytest.mark.parametrize(
    "y", [np.zeros((3, 2)), {"late": [0, 1, 0], "minutes": [1, 2, 3]}, pl.DataFrame({"late": [0, 1, 0], "minutes": [1, 2, 3]})]
)
def test_several_targets_are_refused_with_the_way_to_have_them(y: Any, tmp_path: Any) -> None:
    """Labels of several targets are no row of labels, whatever holds them: one sentence says where such models are declared."""
    with pytest.raises(UsageError, match="a script's model has one label a row") as caught:
        bundling.evaluate(Layout(tmp_path), {}, pl.DataFrame({"x": [1, 2, 3]}), y, cluster="")
    assert "label={...}" in caught.value.hint


def test_a_column_of_one_is_a_row_of_labels() -> None:
    """An array of one column, as numpy's users make it, means its values."""
    assert bundling._one_a_row(np.array([[1.0], [0.0]])).to_list() == [1.0, 0.0]
