"""A verdict is honest: the same rows, noise counted, and no pass where nothing was compared."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from mlops_local.domain.assets import GateResult, Verdict
from mlops_local.domain.project import Gate
from mlops_local.engines.gates.judge import FIRST, Evaluation, evaluation, judge
from mlops_local.engines.models.metrics import metric

DAYS = 30


def version(name: str = "delay@2", *, noise: float = 0.3, rows: int = 3000, seed: int = 1, **changes: Any) -> Evaluation:
    """A version whose answers are the truth with noise; the same rows and labels whatever the noise."""
    fixed = np.random.default_rng(0)
    signal = fixed.normal(size=rows) + fixed.normal(size=DAYS)[np.arange(rows) % DAYS]
    label = (fixed.random(rows) < 1 / (1 + np.exp(-signal))).astype(float)
    shown = signal + np.random.default_rng(seed).normal(scale=noise, size=rows)
    made = Evaluation(
        name,
        np.array([f"{at:032x}" for at in range(rows)], dtype=object),
        label,
        1 / (1 + np.exp(-shown)),
        np.arange(rows) % DAYS,
    )
    return replace(made, **changes)


def verdict(gates: list[Gate], candidate: Evaluation, champion: Evaluation | None = None, **more: Any) -> Verdict:
    """Judge with the built-in metrics."""
    return judge(gates, candidate, champion, metric=metric, **{"primary": "auc", "resamples": 500, **more})


def only(found: Verdict) -> GateResult:
    """The one gate's result."""
    assert len(found.gates) == 1
    return found.gates[0]


DROP = [Gate("auc", max_drop=0.005)]


def test_a_model_as_good_passes_and_says_by_how_much() -> None:
    """The interval of the difference lies above the margin; values, difference, rows and clusters are told."""
    result = only(verdict(DROP, version(), version("delay@1", noise=0.6, seed=2)))
    assert result.verdict == "pass" and result.rule == "max_drop 0.005"
    assert result.low is not None and result.low > -0.005 and result.rows == 3000 and result.clusters == DAYS
    assert result.candidate is not None and result.champion is not None
    assert result.difference == pytest.approx(result.candidate - result.champion)


def test_a_clear_loss_fails() -> None:
    """All of the interval below the margin is a regression."""
    found = verdict(DROP, version(noise=1.2), version("delay@1", noise=0.3, seed=2))
    assert found.verdict == "fail" and found.baseline == "delay@1"
    result = only(found)
    assert result.high is not None and result.high < -0.005


def test_noise_is_neither() -> None:
    """A difference that straddles the margin is inconclusive and says how much more data would decide."""
    result = only(verdict(DROP, version(rows=400, noise=0.65), version("delay@1", rows=400, noise=0.6, seed=2)))
    assert result.verdict == "inconclusive"
    assert result.low is not None and result.high is not None and result.low < -0.005 < result.high
    assert "times as many rows would decide" in result.note or "too close" in result.note


def test_the_same_answers_pass_even_without_margin() -> None:
    """A retraining that changed nothing is no regression."""
    assert verdict([Gate("auc", max_drop=0.0)], version(), version("delay@1")).verdict == "pass"


def test_a_metric_where_less_is_better() -> None:
    """A rise of log-loss is a drop: the difference is negative when the candidate is worse."""
    result = only(verdict([Gate("log_loss", max_drop=0.01)], version(noise=2.0), version("delay@1"), primary="log_loss"))
    assert result.verdict == "fail" and result.difference is not None and result.difference < 0


def test_the_first_version_has_nothing_to_be_compared_with() -> None:
    """Its max_drop passes with a note; absolute gates and tests still count."""
    found = verdict([*DROP, Gate("auc", min=0.99)], version())
    assert [result.verdict for result in found.gates] == ["pass", "fail"]
    assert found.gates[0].note == FIRST and found.verdict == "fail" and found.baseline == ""


def test_no_common_row_is_never_a_pass() -> None:
    """Other rows: nothing is compared, and the note says so."""
    other = version("delay@1", row=np.array([f"x{at}" for at in range(3000)], dtype=object))
    result = only(verdict(DROP, version(), other))
    assert result.verdict == "inconclusive" and "no row in common with delay@1" in result.note


def test_rows_are_matched_by_hash_not_by_place() -> None:
    """The champion's rows in another order and some missing: compared on the common ones, and the rest counted."""
    order = np.random.default_rng(4).permutation(3000)[:2500]
    champion = version("delay@1", noise=0.5, seed=2)
    shuffled = only(verdict(DROP, version(), champion.at(order)))
    straight = only(verdict(DROP, version(), champion.at(np.sort(order))))
    assert shuffled.difference == straight.difference and shuffled.rows == 2500
    assert "500 rows were not answered by delay@1" in shuffled.note


def test_repeated_rows_are_matched_one_by_one() -> None:
    """Two equal rows are two rows, not four pairs."""
    rows = np.array([f"{at // 2:032x}" for at in range(3000)], dtype=object)
    assert only(verdict(DROP, version(row=rows), version("delay@1", row=rows))).rows == 3000


def test_rows_that_either_side_trained_on_are_left_out_and_counted() -> None:
    """A model is not judged on what it has seen."""
    rows = version().row
    candidate = version(trained=frozenset(rows[:100]))
    champion = version("delay@1", noise=0.5, seed=2, trained=frozenset(rows[50:300]))
    result = only(verdict(DROP, candidate, champion))
    assert result.rows == 2700 and "300 rows trained on are left out" in result.note
    everything = only(verdict(DROP, version(trained=frozenset(rows)), champion))
    assert everything.verdict == "inconclusive" and "all 3000 were trained on" in everything.note


def test_the_newest_label_counts_for_both() -> None:
    """A corrected label does not make two rows of one."""
    champion = version("delay@1", noise=0.5, seed=2)
    flipped = replace(champion, label=1 - champion.label)
    assert only(verdict(DROP, version(), flipped)).difference == only(verdict(DROP, version(), champion)).difference


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"prediction": np.full(3000, np.nan)}, "3000 predictions are NaN"),
        ({"label": np.ones(3000)}, "every label is 1"),
        (
            {"label": np.ones(0), "prediction": np.ones(0), "row": np.array([], dtype=object), "cluster": None},
            "no evaluation row",
        ),
    ],
    ids=["nan", "one class", "empty"],
)
@pytest.mark.parametrize("gates", [[], DROP, [Gate("auc", min=0.1)]], ids=["no gate", "max_drop", "min"])
def test_a_metric_without_value_is_never_a_pass(changes: dict[str, Any], why: str, gates: list[Gate]) -> None:
    """NaN answers, one class, no rows: inconclusive with the reason, first version or not, gates or not."""
    for champion in (None, version("delay@1")):
        found = verdict(gates, version(**changes), champion)
        assert found.verdict == "inconclusive" and why in found.gates[0].note


def test_a_champion_without_value_cannot_be_compared_with() -> None:
    """NaN on the other side is inconclusive too."""
    result = only(verdict(DROP, version(), version("delay@1", prediction=np.full(3000, np.nan))))
    assert result.verdict == "inconclusive" and "delay@1" in result.note


def test_a_metric_nobody_computes_is_named() -> None:
    """A gate on an unknown metric does not pass by accident."""
    result = only(verdict([Gate("acu", max_drop=0.1)], version(), version("delay@1")))
    assert result.verdict == "inconclusive" and "no metric 'acu'" in result.note


@pytest.mark.parametrize(("bound", "expected"), [(-0.2, "pass"), (-0.001, "inconclusive"), (0.001, "fail")])
def test_bounds_use_the_value_and_its_interval(bound: float, expected: str) -> None:
    """Beyond the bound by value fails; only by the interval is inconclusive; the whole interval within passes."""
    value = metric("auc")(version().label, version().prediction)
    assert only(verdict([Gate("auc", min=value + bound)], version())).verdict == expected
    loss = metric("log_loss")(version().label, version().prediction)
    assert only(verdict([Gate("log_loss", max=loss - bound)], version(), primary="log_loss")).verdict == expected


def test_own_metrics_are_means_of_their_values() -> None:
    """A value a row is resampled like any other; a cost that rises is a drop."""
    cheap, dear = np.linspace(0, 1, 3000), np.linspace(0, 1, 3000) + 0.5
    gates = [Gate("cost", max_drop=0.1)]
    candidate = version(own={"cost": dear}, greater={"cost": False})
    result = only(verdict(gates, candidate, version("delay@1", own={"cost": cheap})))
    assert result.verdict == "fail" and result.difference == pytest.approx(-0.5)
    more_is_better = only(verdict(gates, version(own={"cost": dear}), version("delay@1", own={"cost": cheap})))
    assert more_is_better.verdict == "pass"
    unknown = only(verdict(gates, candidate, version("delay@1")))
    assert unknown.verdict == "inconclusive" and "cost of delay@1" in unknown.note


def test_a_number_over_all_rows_has_a_bound_but_no_comparison() -> None:
    """A whole metric can be held against a bound by its value alone, never against the champion."""
    candidate = version(whole={"lift": 2.0})
    found = verdict([Gate("lift", min=1.5, max_drop=0.1)], candidate, version("delay@1", whole={"lift": 2.0}))
    assert [result.verdict for result in found.gates] == ["inconclusive", "pass"]
    assert "by its value alone" in found.gates[1].note


def test_a_failed_behaviour_test_blocks() -> None:
    """It is a gate like any other, with its message."""
    tests = ({"name": "fog_hurts", "verdict": "fail", "note": "0.1 in fog"}, {"name": "sane", "verdict": "pass", "note": ""})
    found = verdict(DROP, version(tests=tests), None)
    assert found.verdict == "fail"
    assert [(result.rule, result.verdict, result.note) for result in found.gates[1:]] == [
        ("test fog_hurts", "fail", "0.1 in fog"),
        ("test sane", "pass", ""),
    ]


def test_few_clusters_are_said() -> None:
    """An interval from four days is rough."""
    candidate, champion = version(), version("delay@1", noise=0.6, seed=2)
    result = only(verdict(DROP, replace(candidate, cluster=np.arange(3000) % 4), champion))
    assert result.clusters == 4 and "only 4 clusters" in result.note


def test_an_evaluation_is_read_from_kept_predictions() -> None:
    """Columns of the evaluate step's frame and the entries of its report become an evaluation."""
    frame = pl.DataFrame(
        {"row": ["a", "b"], "date": [None, "x"], "label": [0.0, 1.0], "prediction": [0.2, 0.7], "metric.cost": [1.0, 3.0]}
    )
    report = {"tests": [{"name": "t", "verdict": "pass", "note": ""}], "greater_is_better": {"cost": False}, "whole": ["lift"]}
    made = evaluation("delay@1", frame, cluster="date", trained=["c"], report={**report, "metrics": {"lift": 2.0}})
    assert made.cluster is not None and made.cluster.tolist() == [0, 1]
    assert made.own["cost"].tolist() == [1.0, 3.0] and made.greater == {"cost": False} and made.whole == {"lift": 2.0}
    assert made.trained == {"c"} and made.tests[0]["name"] == "t"


def test_a_gate_of_a_target_judges_that_target() -> None:
    """Each on its own label and answers; a champion without the target has no value there, and that is no pass."""

    def both(one: Evaluation, error: float) -> Evaluation:
        minutes = np.linspace(0, 60, len(one))
        off = np.random.default_rng(3).normal(scale=error, size=len(one))
        return replace(one, targets={"late": (one.label, one.prediction), "minutes": (minutes, minutes + off)})

    gates = [Gate("late.auc", max_drop=0.005), Gate("minutes.rmse", max_drop=0.5)]
    better, worse = both(version(), 1.0), both(version("delay@1", noise=0.6, seed=2), 8.0)
    found = verdict(gates, better, worse, primary="late.auc")
    assert [(gate.metric, gate.verdict) for gate in found.gates] == [("late.auc", "pass"), ("minutes.rmse", "pass")]
    assert found.gates[1].candidate == pytest.approx(1.0, rel=0.1) and found.gates[1].champion == pytest.approx(8.0, rel=0.1)
    assert verdict(gates[1:], worse, better, primary="late.auc").verdict == "fail"
    without = verdict(gates[1:], better, version("delay@1"), primary="late.auc")
    assert without.verdict == "inconclusive" and "of delay@1 has no value" in without.gates[0].note
