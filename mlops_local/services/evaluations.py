"""Put answers on the same rows: measure a version, and compare it with the champion before the gates decide.

When evaluation rows differ, the champion's own bundle scores the candidate's rows in a fresh process. A comparison that cannot
be made is inconclusive; an error only if the champion cannot score the rows.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from mlops_local.domain.assets import GateResult, ModelVersion, Verdict
from mlops_local.domain.errors import IntegrityError, StepFailed
from mlops_local.domain.graph import Model
from mlops_local.domain.plan import Output, StepResult
from mlops_local.domain.project import Gate
from mlops_local.engines.gates import bootstrap
from mlops_local.engines.gates.bootstrap import Floats
from mlops_local.engines.gates.judge import Evaluation, evaluation, of_target
from mlops_local.engines.gates.judge import judge as apply_gates
from mlops_local.engines.models import metrics, score
from mlops_local.services.project import Project
from mlops_local.store import cache, objects

_IMPLIED = "max_drop 0"
_HELD_OUT = "held out"
"""As the evaluate node marks rows that a fold answered without having learned from them."""


@dataclass(frozen=True)
class Measured:
    """A version's primary metric on its evaluation rows, with a 95 % interval, and what identifies the rows."""

    value: float
    low: float | None
    high: float | None
    evaluation: str
    """Hash of the rows and their labels: equal means the same evaluation set."""


def measure(project: Project, declared: Model, result: StepResult) -> Measured:
    """Measure what an evaluate step left; NaN where the metric has no value. Raises IntegrityError for an altered object."""
    found = _evaluation(project, "candidate", declared.cluster, result)
    target, name = of_target(found, declared.metric)
    rows = _rows_hash(found)
    found = found.on(target) if target else found
    if name in found.own:
        value, low, high = bootstrap.mean_interval(found.own[name], found.cluster)
    elif name in metrics.names():
        value, low, high = bootstrap.interval(metrics.metric(name), found.label, found.prediction, found.cluster)
    else:
        value, low, high = found.whole.get(name, float("nan")), float("nan"), float("nan")
    known = bool(np.isfinite(low) and np.isfinite(high))
    return Measured(float(value), low if known else None, high if known else None, rows)


def judge(
    project: Project,
    declared: Model,
    version: ModelVersion,
    result: StepResult,
    *,
    champion: ModelVersion | None,
    gates: Sequence[Gate],
    raw_rows: Output | None,
) -> Verdict:
    """Compare a version with the champion and apply the gates.

    Args:
        project: the project.
        declared: the model as the code declares it.
        version: the version to judge.
        result: its evaluate step's result.
        champion: what it is compared with; None for a first version.
        gates: the rules of mlops.toml; without any, a version fails only when it is worse beyond noise.
        raw_rows: the rows the version was evaluated on, in the order of its predictions (part `rows.parquet`): the
            champion answers them where it was evaluated on others.

    Raises:
        StepFailed: the champion's bundle cannot score the rows.
        IntegrityError: a stored object is missing or altered.
    """
    # The version's own predictions: a step that was forced to run again may have left others under the same fingerprint.
    candidate = _evaluation(project, version.id, declared.cluster, result, stored=version.predictions)
    baseline = _baseline(project, declared, candidate, version, result, champion, raw_rows) if champion is not None else None
    if gates:
        return apply_gates(gates, candidate, baseline, metric=metrics.metric, primary=declared.metric)
    implied = Gate(declared.metric, max_drop=0.0)
    return _beyond_noise(apply_gates([implied], candidate, baseline, metric=metrics.metric, primary=declared.metric))


def _beyond_noise(verdict: Verdict) -> Verdict:
    """The verdict where mlops.toml sets no gate: worse beyond noise fails, what cannot be compared stays inconclusive."""

    def softened(gate: GateResult) -> GateResult:
        noise = gate.rule == _IMPLIED and gate.verdict == "inconclusive" and gate.low is not None
        return replace(
            gate,
            rule="no gate is set: not worse beyond noise",
            verdict="pass" if noise else gate.verdict,
            note="" if noise else gate.note,
        )

    results = tuple(softened(gate) if gate.rule == _IMPLIED else gate for gate in verdict.gates)
    found = {gate.verdict for gate in results}
    overall = "fail" if "fail" in found else "inconclusive" if "inconclusive" in found else "pass"
    return replace(verdict, gates=results, verdict=overall)


def _baseline(
    project: Project,
    declared: Model,
    candidate: Evaluation,
    version: ModelVersion,
    result: StepResult,
    champion: ModelVersion,
    raw_rows: Output | None,
) -> Evaluation:
    """The champion's answers: those it gave when it was evaluated on the same rows, else new ones on the candidate's."""
    kept = cache.step_result(project.layout, champion.fingerprint)
    if champion.evaluation == version.evaluation or raw_rows is None:
        frame = _table(project, champion.predictions)
        found = evaluation(
            champion.id,
            frame,
            cluster=declared.cluster,
            trained=_trained(project, kept, answered=True),
            report=kept.report if kept else None,
        )
        # Its values of a metric that was edited since are values of another metric.
        ours, theirs = (report.report.get("own_metrics", {}) if report else {} for report in (result, kept))
        same = {name: values for name, values in found.own.items() if name in theirs and theirs[name] == ours.get(name)}
        return replace(found, own=same)
    rows = _table(project, raw_rows.parts["rows.parquet"])
    with tempfile.TemporaryDirectory(prefix="mlops-champion-") as place:
        bundle = _bundle(project, champion, Path(place))
        try:
            answers = score.fresh_table(bundle, rows)
        except StepFailed as error:
            raise StepFailed(
                f"{champion.id} does not answer the rows {version.id} was evaluated on: {error.message}",
                hint=f'they cannot be compared; to decide all the same: mlops model promote {version.id} --force --reason "…"',
            ) from error
    return Evaluation(
        version=champion.id,
        row=candidate.row,
        label=candidate.label,
        prediction=_answers(answers, of_target(candidate, declared.metric)[0]),
        cluster=candidate.cluster,
        trained=frozenset(_trained(project, kept)),
        targets={name: (label, _answers(answers, name)) for name, (label, _) in candidate.targets.items()},
    )


def _answers(table: pl.DataFrame, target: str) -> Floats:
    """A target's answers; NaN where the champion has other targets."""
    name = target or "prediction"
    if name not in table.columns:
        return np.full(table.height, np.nan)
    return table.get_column(name).cast(pl.Float64).to_numpy()


def _evaluation(project: Project, version: str, cluster: str, result: StepResult, *, stored: str = "") -> Evaluation:
    predictions = _table(project, stored or _only(result, "predictions"))
    trained = _trained(project, result, answered=True)
    return evaluation(version, predictions, cluster=cluster, trained=trained, report=result.report)


def _trained(project: Project, result: StepResult | None, *, answered: bool = False) -> list[str]:
    """Hashes of the rows a version was fitted on; none where that is not known.

    Args:
        project: the project.
        result: the version's evaluate step.
        answered: it is for the answers kept with the version: of the rows it was evaluated on in folds, those are not the
            bundle's but a fold's, which had not seen them.
    """
    if result is None or not any(output.name == "trained" for output in result.outputs):
        return []
    table = _table(project, _only(result, "trained"))
    rows: list[str] = (table.filter(pl.col("part") != _HELD_OUT) if answered else table).get_column("row").to_list()
    return rows


def _only(result: StepResult, name: str) -> str:
    output = next(item for item in result.outputs if item.name == name)
    return next(iter(output.parts.values()))


def _table(project: Project, stored: str) -> pl.DataFrame:
    if not objects.verify(project.layout, stored):
        raise IntegrityError(
            f"a stored table is missing or altered ({stored[:12]})", hint="run `mlops doctor`, then `mlops train --force`"
        )
    return pl.read_parquet(objects.path(project.layout, stored), glob=False)


def _bundle(project: Project, version: ModelVersion, folder: Path) -> Path:
    """The version's bundle as a folder; every file is verified on the way."""
    for name, stored in version.bundle.items():
        path = folder / "bundle" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(objects.get(project.layout, stored))
    return folder / "bundle"


def _rows_hash(found: Evaluation) -> str:
    digest = hashlib.blake2b(digest_size=32, person=b"mlops-rows")
    order = np.argsort(found.row.astype(str), kind="stable")
    digest.update("\n".join(found.row[order]).encode())
    digest.update(found.label[order].astype("<f8").tobytes())
    return digest.hexdigest()
