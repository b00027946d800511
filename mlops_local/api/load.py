"""Read back: `load_model(REF).predict(frame)` answers what the server answers; `load` gives a step's value."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from mlops_local.api.process import project_layout
from mlops_local.domain.errors import IntegrityError, UsageError
from mlops_local.store import cache, objects, registry
from mlops_local.store.layout import hmac_key
from mlops_local.store.versions import find

if TYPE_CHECKING:
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

    def predict(self, rows: Any) -> Any:
        """One number a row, in order, as an array; a polars frame with a column for each target where there are several.

        Args:
            rows: a polars or pandas frame, a mapping of columns or a list of row objects.

        Raises:
            DataError: a column is missing or has the wrong type; names row and column.
        """
        frame = self._predictor.validate(rows) if isinstance(rows, list) else frame_of(rows)
        return self._predictor.table(frame) if self._predictor.targets else self._predictor.predict(frame)

    def __repr__(self) -> str:
        return f"<{self.version.id} {self.version.metric}={self.version.value:.4f}>"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        cells = [(self.version.id, f"{self.version.metric} {self.version.value:.4f}")]
        cells += [(column.name, column.type) for column in self.signature]
        rows = "".join(f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>" for name, value in cells)
        return f"<table>{rows}</table>"


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


def load(ref: str, wants: str = "frame") -> Any:
    """Load the newest output of a step.

    Args:
        ref: `step`, or `step.output` where it has several; `@latest` may follow.
        wants: how tables come: frame, lazy or pandas.

    Raises:
        UsageError: the step never ran, or has no such output.
        IntegrityError: a stored file is not what was written.
    """
    from mlops_local.engines.pipeline import values  # polars, and what fitted the value

    layout = project_layout()
    name = ref.removesuffix("@latest")
    step, output = name, ""
    result = cache.latest(layout, step)
    if result is None and "." in name:
        step, _, output = name.rpartition(".")
        result = cache.latest(layout, step)
    if result is None:
        raise UsageError(f"no step {name!r} has run here", hint="`mlops plan` lists the steps")
    made = [item for item in result.outputs if output in ("", item.name)]
    if len(made) != 1:
        names = ", ".join(f"{step}.{item.name}" for item in result.outputs)
        raise UsageError(f"step {step!r} has no single output {output!r}".replace(" ''", ""), hint=f"say which: {names}")
    for part, stored in made[0].parts.items():
        if not objects.verify(layout, stored):
            raise IntegrityError(f"{part} of {step} is missing or altered", hint="run `mlops doctor --fix`, then `mlops train`")
    files = {part: str(objects.path(layout, stored)) for part, stored in made[0].parts.items()}
    return values.load(made[0].kind, files, wants, key=hmac_key(layout).hex())


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
    """A pandas column as polars takes it without pyarrow: numbers and times as numpy, the rest as a list with None for gaps."""
    if column.dtype.kind in "biufmM":
        return column.to_numpy()
    return [None if value != value or value is None else value for value in column.tolist()]
