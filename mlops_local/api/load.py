"""Read a version back: `mlops.load_model("delay@champion").predict(frame)` answers what the server answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlops_local.api.run import project_layout
from mlops_local.domain.errors import IntegrityError
from mlops_local.store import objects, registry
from mlops_local.store.versions import find

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mlops_local.domain.assets import Column, ModelVersion
    from mlops_local.engines.models.predictor import Predictor


class LoadedModel:
    """A version in this process: its transform, states and model, exactly as they are served."""

    def __init__(self, version: ModelVersion, predictor: Predictor) -> None:
        self.version = version
        self._predictor = predictor

    @property
    def signature(self) -> tuple[Column, ...]:
        """The raw columns a row needs."""
        return self._predictor.signature

    def predict(self, rows: Any) -> NDArray[np.float64]:
        """One number a row, in order.

        Args:
            rows: a polars or pandas frame, a mapping of columns or a list of row objects.

        Raises:
            DataError: a column is missing or has the wrong type; names row and column.
        """
        if isinstance(rows, list):
            return self._predictor.predict(self._predictor.validate(rows))
        return self._predictor.predict(frame_of(rows))

    def __repr__(self) -> str:
        return f"<{self.version.id} {self.version.metric}={self.version.value:.4f}>"


def load_model(ref: str = "@champion") -> LoadedModel:
    """Load a model version.

    Args:
        ref: `delay@3`, `delay@champion`, `@champion` or `delay`.

    Raises:
        UsageError: no such version.
        IntegrityError: a stored file is not what was written.
    """
    from mlops_local.engines.models import predictor  # polars and onnxruntime: 230 ms, only when a model is asked for

    layout = project_layout()
    version = find(registry.load(layout), ref)
    for name, stored in version.bundle.items():
        if not objects.verify(layout, stored):
            raise IntegrityError(
                f"{version.id}: {name} in its bundle is missing or altered", hint="run `mlops doctor`, then train it again"
            )
    paths = {name: objects.path(layout, stored) for name, stored in version.bundle.items()}
    return LoadedModel(version, predictor.load(paths, version=version.id))


def frame_of(rows: Any) -> Any:
    """Rows as a polars frame: polars as it is, pandas or a mapping column by column."""
    import polars as pl  # as above

    if isinstance(rows, pl.LazyFrame):
        return rows.collect()
    if isinstance(rows, pl.DataFrame):
        return rows
    if hasattr(rows, "columns") and hasattr(rows, "iloc"):
        return pl.DataFrame({str(name): pl.Series(str(name), _values(rows[name])) for name in rows.columns})
    return pl.DataFrame(rows)


def _values(column: Any) -> Any:
    """A pandas column as what polars takes without pyarrow: numbers and times as numpy, the rest as a list with None for gaps."""
    if column.dtype.kind in "biufmM":
        return column.to_numpy()
    return [None if value != value or value is None else value for value in column.tolist()]
