"""How lists of runs, groups of them and answers to SQL look: aligned for people, CSV and Markdown for other programs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlops_local.cli import output
from mlops_local.cli.output import Column

if TYPE_CHECKING:
    from mlops_local.domain.runs import Run, Spread
    from mlops_local.services.sql import Relation, Table
    from mlops_local.store.grouping import Grouped

Writer = Callable[[Sequence[Column], Sequence[Sequence[Any]]], None]

_METRICS_SHOWN = 4
_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "U", "FLOAT", "DOUBLE", "DECIMAL")
_KEPT = frozenset({"id", "state", "started", "ended", "seconds"})


def runs(found: Sequence[Run], *, also: Sequence[str] = (), write: Writer = output.table) -> None:
    """Runs, one a line, with the metrics most of them have.

    Args:
        found: the runs.
        also: further fields by full name, before the metrics; metrics among them come first.
        write: how.
    """
    metrics = [field for field in also if field.startswith("metric.")]
    common = [f"metric.{key}" for key in _common_metrics(found)]
    metrics += [field for field in common if field not in metrics][: max(0, _METRICS_SHOWN - len(metrics))]
    own = ("id", "name", "state", "started", "seconds")
    fields = [
        *own,
        *(field for field in also if field not in metrics and field not in own and field != "message"),
        *metrics,
        "message",
    ]
    chosen(found, fields, write=write)


def chosen(found: Sequence[Run], fields: Sequence[str], *, write: Writer = output.table) -> None:
    """Runs, one a line, with just these fields, by full name."""
    write([_column(field) for field in fields], [[_shown(run, field) for field in fields] for run in found])


def groups(answer: Grouped, *, write: Writer = output.table) -> None:
    """Groups of runs: what they share, how many, each metric's mean ± standard deviation."""
    columns = [*(_column(field) for field in answer.by), Column("runs", right=True, keep=True)]
    columns += [Column(metric, right=True, keep=True) for metric in answer.metrics]
    rows = []
    for group in answer.groups:
        values = [
            output.local_time(value) if field in {"started", "ended"} else output.given(value)
            for field, value in zip(answer.by, group.values, strict=True)
        ]
        rows.append([*values, group.runs, *(_spread(group.metrics.get(metric), group.runs) for metric in answer.metrics)])
    write(columns, rows)


def flat_groups(answer: Grouped) -> list[dict[str, Any]]:
    """Groups as flat rows: `metric.auc`, `metric.auc.std` and `metric.auc.count`."""
    rows = []
    for group in answer.groups:
        row: dict[str, Any] = {**dict(zip(answer.by, group.values, strict=True)), "runs": group.runs}
        for metric in answer.metrics:
            spread = group.metrics.get(metric)
            row[f"metric.{metric}"] = spread.mean if spread else None
            row[f"metric.{metric}.std"] = spread.std if spread else None
            row[f"metric.{metric}.count"] = spread.count if spread else 0
        rows.append(row)
    return rows


def sql(answer: Table, *, write: Writer = output.table) -> None:
    """A query's answer; numbers to the right."""
    columns = [Column(name, right=kind.startswith(_NUMBERS)) for name, kind in zip(answer.columns, answer.types, strict=True)]
    write(columns, answer.rows)


def schema(found: Sequence[Relation]) -> None:
    """The tables of the SQL space, and what each is about."""
    output.table(
        [Column("table", keep=True), Column("columns", right=True), "about"],
        [(item.name, len(item.columns), item.about) for item in found],
    )


def relation(found: Relation) -> None:
    """One table's columns."""
    output.line(f"{found.name}: {found.about}\n" if found.about else found.name)
    columns = [Column("column", keep=True), Column("type", keep=True), Column("about")]
    output.table(columns, [(column.name, column.type, column.about) for column in found.columns])


def _common_metrics(found: Sequence[Run]) -> list[str]:
    """The metrics most of these runs have, the most frequent first."""
    counts: dict[str, int] = {}
    for run in found:
        for key in run.metrics:
            counts[key] = counts.get(key, 0) + 1
    return sorted(counts, key=lambda key: -counts[key])[:_METRICS_SHOWN]


def _column(field: str) -> Column:
    space, _, name = field.partition(".")
    titles = {"metric": name, "param": name, "tag": name}
    title = "took" if field == "seconds" else titles.get(space, field) if name else field
    return Column(title, right=field == "seconds" or space == "metric", keep=field in _KEPT)


def _shown(run: Run, field: str) -> Any:
    space, dot, name = field.partition(".")
    if dot:
        if space == "metric":
            return run.metrics.get(name)
        values: Mapping[str, Any] = {"param": run.params, "tag": run.tags}[space]
        return output.given(values.get(name))
    match field:
        case "id":
            return run.short
        case "state":
            return run.state.value + (" (incomplete)" if run.incomplete else "")
        case "started" | "ended":
            return output.local_time(getattr(run, field))
        case "seconds":
            return output.seconds(run.seconds)
        case "commit":
            return run.commit[:10]
        case "message":
            return run.message or (run.error.splitlines()[0] if run.error else "")
        case _:
            return getattr(run, field)


def _spread(spread: Spread | None, runs: int) -> str:
    """`0.7213 ± 0.0021`, and of how many where not all have it."""
    if spread is None:
        return ""
    shown = output.decimal(spread.mean) + (f" ± {output.decimal(spread.std)}" if spread.std is not None else "")
    return shown if spread.count == runs else f"{shown} ({spread.count})"
