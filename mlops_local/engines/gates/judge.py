"""Apply a model's gates to one evaluated version: pass, fail or inconclusive, and why.

Two versions are compared only on rows both answered, found by row hash, without the rows either was trained on. What cannot be
compared or computed is inconclusive, never a pass. docs/gates.md explains the rules to users.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from mlops_local.domain.assets import GateResult, Verdict
from mlops_local.domain.project import Gate
from mlops_local.engines.gates import bootstrap
from mlops_local.engines.gates.bootstrap import Floats, Metric

FIRST = "first version: nothing to compare with"
_FEW_CLUSTERS = 10
_NAN = float("nan")


@dataclass(frozen=True)
class Evaluation:
    """One version's answers on its evaluation rows."""

    version: str
    row: npt.NDArray[Any]
    """Row hashes, one a row; a repeated row repeats its hash."""
    label: Floats
    prediction: Floats
    cluster: npt.NDArray[Any] | None = None
    own: Mapping[str, Floats] = field(default_factory=dict)
    """Values a row of the user's own metrics."""
    greater: Mapping[str, bool] = field(default_factory=dict)
    """Own metric -> whether more is better; more is better unless said otherwise."""
    whole: Mapping[str, float] = field(default_factory=dict)
    """Own metrics that are one number over all rows."""
    trained: frozenset[str] = frozenset()
    """Hashes of the rows it was fitted on."""
    tests: Sequence[Mapping[str, str]] = ()
    """Behaviour tests: name, verdict, note."""
    targets: Mapping[str, tuple[Floats, Floats]] = field(default_factory=dict)
    """Where a row has several labels: target -> label and prediction."""

    def __len__(self) -> int:
        return len(self.row)

    def at(self, rows: npt.NDArray[np.intp]) -> Evaluation:
        """The same version on some of the rows."""
        return Evaluation(
            self.version,
            self.row[rows],
            self.label[rows],
            self.prediction[rows],
            None if self.cluster is None else self.cluster[rows],
            {name: values[rows] for name, values in self.own.items()},
            self.greater,
            self.whole,
            self.trained,
            self.tests,
            {name: (label[rows], prediction[rows]) for name, (label, prediction) in self.targets.items()},
        )

    def on(self, target: str) -> Evaluation:
        """The same with one target's label and prediction; NaN where it was not answered."""
        gone = np.full(len(self), _NAN)
        label, prediction = self.targets.get(target, (gone, gone))
        return replace(self, label=label, prediction=prediction, own={}, whole={}, targets={})


class Columns(Protocol):
    """A frame of predictions (polars): all that is needed of it."""

    @property
    def columns(self) -> list[str]:
        """Names."""

    def __getitem__(self, name: str, /) -> Any:
        """A column."""


def evaluation(
    version: str,
    predictions: Columns,
    *,
    cluster: str = "",
    trained: Sequence[str] = (),
    report: Mapping[str, Any] | None = None,
) -> Evaluation:
    """An evaluation from the predictions an evaluate step keeps (row, label, prediction, metric.NAME and the cluster column).

    Args:
        version: id of the version.
        predictions: the frame.
        cluster: column whose rows belong together; empty: none.
        trained: the `row` column of the step's `trained` output.
        report: the step's report: behaviour tests, own metrics.
    """
    said = report or {}
    own = {
        name.removeprefix("metric."): _floats(predictions, name) for name in predictions.columns if name.startswith("metric.")
    }
    column = f"rows.{cluster}" if f"rows.{cluster}" in predictions.columns else cluster
    return Evaluation(
        version=version,
        row=np.asarray(predictions["row"].to_list(), dtype=object),
        label=_floats(predictions, "label"),
        prediction=_floats(predictions, "prediction"),
        cluster=_codes(predictions[column].to_list()) if cluster and column in predictions.columns else None,
        own=own,
        greater=said.get("greater_is_better", {}),
        whole={name: said["metrics"].get(name, _NAN) for name in said.get("whole", ())},
        trained=frozenset(trained),
        tests=tuple(said.get("tests", ())),
        targets={
            name: (_floats(predictions, f"label.{name}"), _floats(predictions, f"prediction.{name}"))
            for name in (column.removeprefix("label.") for column in predictions.columns if column.startswith("label."))
        },
    )


def of_target(one: Evaluation, name: str) -> tuple[str, str]:
    """The target a metric is of, and its name there: `late.auc` is ("late", "auc"); ("", name) for one of all rows' label."""
    target, dot, rest = name.partition(".")
    return (target, rest) if dot and target in one.targets else ("", name)


def judge(
    gates: Sequence[Gate],
    candidate: Evaluation,
    champion: Evaluation | None,
    *,
    metric: Callable[[str], Metric],
    primary: str = "",
    resamples: int = 2000,
    seed: int = 0,
) -> Verdict:
    """Apply every gate and behaviour test.

    Args:
        gates: the model's rules.
        candidate: the version to judge, on its evaluation rows.
        champion: the version to compare with, on the same rows where possible; None: the first version.
        metric: a metric by name; KeyError for a name that is not built in.
        primary: the model's metric: a version for which it has no value never passes.
        resamples: draws of an interval.
        seed: of the draws.
    """
    # A set, not np.isin: over text that compares every row with every other (160 s for a quarter of a million).
    kept = np.array([at for at, row in enumerate(candidate.row) if row not in candidate.trained], dtype=np.intp)
    overlap = len(candidate) - len(kept)
    left = candidate.at(kept)

    def bench_of(target: str) -> _Bench:
        ours, theirs = (left.on(target), champion.on(target) if champion else None) if target else (left, champion)
        return _Bench(ours, overlap, theirs, metric, resamples, seed)

    benches = {
        target: bench_of(target)
        for target in dict.fromkeys(of_target(left, name)[0] for name in [*(g.metric for g in gates), primary])
    }
    results = []
    for gate in gates:
        target, name = of_target(left, gate.metric)
        applied = [benches[target].apply(replace(gate, metric=name), rule, bound) for rule, bound in _rules(gate)]
        results += [replace(result, metric=gate.metric) for result in applied]
    results += [
        GateResult(test["name"], f"test {test['name']}", test["verdict"], note=test["note"]) for test in candidate.tests
    ]
    target, name = of_target(left, primary)
    bench = benches[target]
    if primary and not np.isfinite(bench.value(name)) and not any(result.metric == primary for result in results):
        results.append(GateResult(primary, "has a value", "inconclusive", rows=len(kept), note=bench.why_none(name)))
    found = {result.verdict for result in results}
    overall = "fail" if "fail" in found else "inconclusive" if "inconclusive" in found else "pass"
    return Verdict(candidate.version, champion.version if champion else "", overall, tuple(results))


def _rules(gate: Gate) -> list[tuple[str, float]]:
    return [(rule, bound) for rule in ("max_drop", "min", "max") if (bound := getattr(gate, rule)) is not None]


class _Bench:
    """The rows a verdict is made on."""

    def __init__(
        self,
        candidate: Evaluation,
        overlap: int,
        champion: Evaluation | None,
        metric: Callable[[str], Metric],
        resamples: int,
        seed: int,
    ) -> None:
        self.candidate = candidate
        self.champion = champion
        self.overlap = overlap
        self.metric = metric
        self.draws: dict[str, int] = {"resamples": resamples, "seed": seed}
        if champion is not None:
            ours, theirs, self.trained = _common(candidate, champion)
            self.common = (candidate.at(ours), champion.at(theirs))

    def apply(self, gate: Gate, rule: str, bound: float) -> GateResult:
        """One rule of one gate."""
        text = f"{rule} {bound:g}"
        value = self.value(gate.metric)
        if not np.isfinite(value):
            return GateResult(gate.metric, text, "inconclusive", rows=len(self.candidate), note=self.why_none(gate.metric))
        return (
            self._drop(gate.metric, text, bound, value) if rule == "max_drop" else self._bound(gate.metric, rule, bound, value)
        )

    def value(self, name: str) -> float:
        """The candidate's metric; NaN where it has none."""
        return self._of(self.candidate, name)

    def why_none(self, name: str) -> str:
        """Why a metric has no value."""
        if not len(self.candidate):
            return "no evaluation row is left" + (f": all {self.overlap} were trained on" if self.overlap else "")
        if not np.isfinite(self.candidate.prediction).all():
            return f"{int((~np.isfinite(self.candidate.prediction)).sum())} predictions are NaN or infinite"
        known = name in self.candidate.own or name in self.candidate.whole
        if not known and self._builtin(name) is None:
            return f"the evaluation has no metric '{name}'"
        if len(np.unique(self.candidate.label)) < 2:
            return f"{name} has no value: every label is {self.candidate.label[0]:g}"
        return f"{name} has no value on these rows"

    def _drop(self, name: str, text: str, margin: float, value: float) -> GateResult:
        if self.champion is None:
            return GateResult(name, text, "pass", candidate=value, rows=len(self.candidate), note=FIRST)
        ours, theirs = self.common
        if not len(ours):
            note = f"no row in common with {self.champion.version}" + self._left_out()
            return GateResult(name, text, "inconclusive", candidate=value, note=note)
        answered = name not in ours.own or name in theirs.own  # else a built-in metric of that name is another one
        values = self._of(ours, name), self._of(theirs, name, labels=ours.label) if answered else _NAN
        if name in self.candidate.whole:
            note = "one number over all rows: a difference has no interval"
            return self._told(name, text, "inconclusive", values, (_NAN, _NAN, _NAN), note)
        if not np.isfinite(values).all():
            who = self.champion.version if np.isfinite(values[0]) else "the candidate"
            return self._told(
                name, text, "inconclusive", values, (_NAN, _NAN, _NAN), f"{name} of {who} has no value on common rows"
            )
        difference, low, high = self._paired(name, ours, theirs)
        return self._told(
            name, text, _three(low, high, -margin), values, (difference, low, high), _more(difference, low, high, margin)
        )

    def _bound(self, name: str, rule: str, bound: float, value: float) -> GateResult:
        low, high = self._interval(name)
        sign = 1.0 if rule == "min" else -1.0
        reach = low if rule == "min" else high
        text = f"{rule} {bound:g}"
        verdict, note = "pass", ""
        if sign * value < sign * bound:
            verdict = "fail"
        elif not np.isfinite(reach):
            note = "by its value alone: it has no interval"
        elif sign * reach < sign * bound:
            verdict, note = (
                "inconclusive",
                f"its value passes, its interval reaches {'below' if rule == 'min' else 'above'} {bound:g}",
            )
        clusters, few = self._clusters(self.candidate)
        kept = f"{self.overlap} rows trained on are left out" if self.overlap else ""
        return GateResult(
            name, text, verdict, candidate=value, low=_none(low), high=_none(high), rows=len(self.candidate), clusters=clusters,
            note="; ".join(part for part in (note, few, kept) if part),
        )  # fmt: skip

    def _told(
        self, name: str, text: str, verdict: str, values: tuple[float, float], found: tuple[float, float, float], note: str
    ) -> GateResult:
        ours = self.common[0]
        clusters, few = self._clusters(ours)
        left = self._left_out().removeprefix("; ")
        return GateResult(
            metric=name,
            rule=text,
            verdict=verdict,
            candidate=_none(values[0]),
            champion=_none(values[1]),
            difference=_none(found[0]),
            low=_none(found[1]),
            high=_none(found[2]),
            rows=len(ours),
            clusters=clusters,
            note="; ".join(part for part in (note, few, left) if part),
        )

    def _left_out(self) -> str:
        assert self.champion is not None
        trained = self.overlap + self.trained
        alone = len(self.candidate) - len(self.common[0]) - self.trained
        parts = [f"{trained} rows trained on are left out"] if trained else []
        parts += [f"{alone} rows were not answered by {self.champion.version}"] if alone else []
        return "".join("; " + part for part in parts)

    def _paired(self, name: str, ours: Evaluation, theirs: Evaluation) -> tuple[float, float, float]:
        if name in ours.own:
            sign = 1.0 if ours.greater.get(name, True) else -1.0
            return bootstrap.mean_interval(sign * (ours.own[name] - theirs.own[name]), ours.cluster, **self.draws)
        metric = self.metric(name)
        found = bootstrap.paired(metric, ours.label, ours.prediction, theirs.prediction, ours.cluster, **self.draws)
        return found.difference, found.low, found.high

    def _interval(self, name: str) -> tuple[float, float]:
        one = self.candidate
        if name in one.own:
            return bootstrap.mean_interval(one.own[name], one.cluster, **self.draws)[1:]
        if name in one.whole:
            return _NAN, _NAN
        return bootstrap.interval(self.metric(name), one.label, one.prediction, one.cluster, **self.draws)[1:]

    def _of(self, one: Evaluation, name: str, labels: Floats | None = None) -> float:
        if name in one.own:
            return float(one.own[name].mean()) if len(one) else _NAN
        if name in one.whole:
            return one.whole[name]
        metric = self._builtin(name)
        return metric(one.label if labels is None else labels, one.prediction) if metric is not None else _NAN

    def _builtin(self, name: str) -> Metric | None:
        try:
            return self.metric(name)
        except KeyError:
            return None

    def _clusters(self, one: Evaluation) -> tuple[int | None, str]:
        if one.cluster is None:
            return None, ""
        count = len(np.unique(one.cluster))
        return count, f"only {count} clusters: the interval is rough" if count < _FEW_CLUSTERS else ""


def _common(candidate: Evaluation, champion: Evaluation) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], int]:
    """Positions of the rows both answered, in one order, without those the champion was trained on; and how many those were.

    A row that occurs several times is matched occurrence by occurrence.
    """
    where = {key: at for at, key in enumerate(_occurrences(champion.row))}
    pairs = [(at, where[key]) for at, key in enumerate(_occurrences(candidate.row)) if key in where]
    clean = [pair for pair in pairs if candidate.row[pair[0]] not in champion.trained]
    trained = sum(1 for row in candidate.row if row in champion.trained)
    ours, theirs = (np.array([pair[side] for pair in clean], dtype=np.intp) for side in (0, 1))
    return ours, theirs, trained


def _occurrences(rows: npt.NDArray[Any]) -> list[tuple[str, int]]:
    seen: dict[str, int] = {}
    keys = []
    for row in rows:
        seen[row] = seen.get(row, -1) + 1
        keys.append((row, seen[row]))
    return keys


def _three(low: float, high: float, bound: float) -> str:
    """pass if the whole interval is at or above the bound, fail if all of it is below, else inconclusive."""
    if not (np.isfinite(low) and np.isfinite(high)):
        return "inconclusive"
    return "pass" if low >= bound else "fail" if high < bound else "inconclusive"


def _more(difference: float, low: float, high: float, margin: float) -> str:
    """For an interval that straddles the margin: how much more data would decide, if the difference stayed what it is."""
    if not np.isfinite(low):
        return "the difference has no interval on these rows"
    if _three(low, high, -margin) != "inconclusive":
        return ""
    room = abs(difference + margin)
    times = ((high - low) / 2 / room) ** 2 if room > 0 else np.inf
    return (
        f"about {max(2, int(np.ceil(times)))} times as many rows would decide"
        if times < 1000
        else "too close to the margin to decide"
    )


def _none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _floats(frame: Columns, name: str) -> Floats:
    return np.asarray(frame[name].to_numpy(), dtype=np.float64)


def _codes(values: Sequence[Any]) -> npt.NDArray[np.intp]:
    """Clusters as numbers: any type, gaps included, in order of appearance."""
    seen: dict[Any, int] = {}
    return np.array([seen.setdefault(value, len(seen)) for value in values], dtype=np.intp)
