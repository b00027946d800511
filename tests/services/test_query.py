from __future__ import annotations

from typing import Any

import pytest

from mlops_local.domain.errors import UsageError
from mlops_local.services import query


def _four(story: Any) -> Any:
    story.run("amber-fox", params={"gbm.num_leaves": 31, "gbm.kind": "dart"}, metrics={"auc": 0.70}, message="first try")
    story.run("bold-owl", params={"gbm.num_leaves": 95}, metrics={"auc": 0.74, "loss": float("nan")}, tags={"baseline": "yes"})
    story.run("calm-elk", state="failed", params={"gbm.num_leaves": 127, "gbm.deep": True}, commit="abcdef0123")
    story.run("dapper-ash", kind="script", metrics={"auc": 0.72}, dirty=True)
    return story


@pytest.fixture
def runs(story: Any) -> Any:
    """Four runs that differ in everything a filter can ask for."""
    return _four(story)


@pytest.fixture(scope="module")
def kept(shared_story: Any) -> Any:
    """The same four, for tests that only read."""
    return _four(shared_story)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ["dapper-ash", "calm-elk", "bold-owl", "amber-fox"]),
        ("metric.auc > 0.7", ["dapper-ash", "bold-owl"]),
        ("metric.auc >= 0.7 and metric.auc < 0.73", ["dapper-ash", "amber-fox"]),
        ("metric.auc != 0.74", ["dapper-ash", "amber-fox"]),
        ("metric.auc", ["dapper-ash", "bold-owl", "amber-fox"]),
        ("param.gbm.num_leaves = 31", ["amber-fox"]),
        ("param.gbm.num_leaves > 31", ["calm-elk", "bold-owl"]),
        ("param.gbm.kind = dart", ["amber-fox"]),
        ("param.gbm.deep = true", ["calm-elk"]),
        ("state = failed", ["calm-elk"]),
        ("state != 'failed' AND kind = train", ["bold-owl", "amber-fox"]),
        ("name = bold-owl", ["bold-owl"]),
        ("name ~ OX", ["amber-fox"]),
        ('message = "first try"', ["amber-fox"]),
        ("started > '2020-01-31' and ended > '2020-01-31 14:00'", ["dapper-ash", "calm-elk", "bold-owl", "amber-fox"]),
        ("started > 2099-01-01", []),
        ("tag.baseline = yes", ["bold-owl"]),
        ("tag.baseline", ["bold-owl"]),
        ("commit = abcdef", ["calm-elk"]),
        ("dirty = true", ["dapper-ash"]),
        ("seconds = 1.5 and error ~ broke", ["calm-elk"]),
        ("ended = null", []),
        ("metric.auc>0.73", ["bold-owl"]),
        ("auc > 0.73", ["bold-owl"]),
        ("state = failed or metric.auc > 0.73", ["calm-elk", "bold-owl"]),
        ("kind = script or kind = train and state = failed", ["dapper-ash", "calm-elk"]),
        ("(kind = script or kind = train) and state = failed", ["calm-elk"]),
        ("param.gbm.num_leaves in (31, 127)", ["calm-elk", "amber-fox"]),
        ("param.gbm.num_leaves not in (31, 127)", ["bold-owl"]),
        ("not param.gbm.num_leaves in (31, 127)", ["dapper-ash", "bold-owl"]),
        ("not metric.auc = 0.74", ["dapper-ash", "calm-elk", "amber-fox"]),
        ("metric.auc = null", ["calm-elk"]),
        ("metric.auc is not null and not tag.baseline", ["dapper-ash", "amber-fox"]),
        ("metric.loss > 0", []),
        ("metric.loss = nan", ["bold-owl"]),
        ("metric.loss != 0.5", ["bold-owl"]),
        ("dirty", ["dapper-ash"]),
        ("not dirty and kind = train", ["calm-elk", "bold-owl", "amber-fox"]),
        ("started > now() + interval 2 day or started < now() - interval 50 years", []),
        ("started > now() - interval '2 days' and started < now()", ["dapper-ash", "calm-elk", "bold-owl", "amber-fox"]),
    ],
)
def test_a_filter_finds_what_it_says(kept: Any, text: str, names: list[str]) -> None:
    """Fields, metrics, parameters and tags compare as a person means them; newest first."""
    found = query.listing(kept.project, text)
    assert [run.name for run in found.runs] == names and found.total == len(names)


@pytest.mark.parametrize(
    ("sort", "names"),
    [
        ("-metric.auc", ["bold-owl", "dapper-ash", "amber-fox", "calm-elk"]),
        ("metric.auc", ["amber-fox", "dapper-ash", "bold-owl", "calm-elk"]),
        ("param.gbm.num_leaves", ["amber-fox", "bold-owl", "calm-elk", "dapper-ash"]),
        ("name", ["amber-fox", "bold-owl", "calm-elk", "dapper-ash"]),
        ("-started", ["dapper-ash", "calm-elk", "bold-owl", "amber-fox"]),
    ],
)
def test_runs_sort_by_any_field_and_what_lacks_it_comes_last(kept: Any, sort: str, names: list[str]) -> None:
    """`-` is largest first; a run without the value is never first."""
    assert [run.name for run in query.listing(kept.project, sort=sort).runs] == names


def test_a_limit_still_counts_all(kept: Any) -> None:
    """The list is cut, the count is not."""
    found = query.listing(kept.project, "metric.auc", limit=1)
    assert ([run.name for run in found.runs], found.total) == (["dapper-ash"], 3)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("stat = failed", "unknown field 'stat'", "'state'"),
        ("metric.aucc > 0.7", "no run has 'metric.aucc'", "'metric.auc'"),
        ("acu > 0.7", "unknown field 'acu'", "'metric.auc'"),
        ("num_leaves = 3", "unknown field 'num_leaves'", "'param.gbm.num_leaves'"),
        ("metric.zebra > 1", "no run has 'metric.zebra'", "metric.auc, metric.loss"),
        ("state = faild", "no run is ever 'faild'", "'failed'"),
        ("metric.auc > high", "metric.auc is a number", "for example"),
        ("started > soon", "'soon' is not a date", "2026-01-31"),
        ("seconds = long", "seconds is a number", "for example"),
        ("dirty = 7", "dirty is true or false", "for example"),
        ("state", "expected a comparison after 'state'", "for example"),
        ("state =", "a value is missing after '='", "for example"),
        ("state = failed name = x", "expected `and` or `or` before 'name'", "for example"),
        ("(state = failed", "a bracket is not closed", "for example"),
        ("state in failed", "expected a list after `in`", "for example"),
        ("state in (failed, null)", "null and now() cannot stand in a list", "for example"),
        ("state in (failed, dnoe)", "no run is ever 'dnoe'", "'done'"),
        ("started > now() - interval 2 dyas", "no interval in 'dyas'", "'day'"),
        ("metric.auc > now()", "metric.auc is no time", "for example"),
        ("param.gbm.num_leaves > true", "true and false can only be compared", "for example"),
        ("metric.auc < nan", "nan can only be compared", "for example"),
        ("not " * 60 + "dirty", "nested too deep", "for example"),
        ("state = failed and", "a comparison is missing after `and`", "for example"),
        ("name = 'open", "a quote is not closed", "for example"),
        ("= 3", "expected a field, got '='", "for example"),
        ("seconds > null", "null can only be compared", "for example"),
    ],
)
def test_a_filter_that_cannot_be_meant_names_the_way_out(kept: Any, text: str, message: str, hint: str) -> None:
    """A typo names the nearest field; a broken comparison says what is missing and shows one that works."""
    with pytest.raises(UsageError) as caught:
        query.listing(kept.project, text)
    assert message in caught.value.message and hint in caught.value.hint


def test_a_row_holds_all_a_run_has(kept: Any) -> None:
    """Flat and by full name, for tables of every kind."""
    (row,) = query.runs(kept.project, "name = bold-owl")
    assert row["name"] == "bold-owl" and row["state"] == "done" and row["seconds"] == 1.5
    assert row["metric.auc"] == 0.74 and row["param.gbm.num_leaves"] == 95 and row["tag.baseline"] == "yes"


@pytest.mark.parametrize(
    ("by", "sort", "expected"),
    [
        (["kind"], "", [(("script",), 1, 0.72, None, 1), (("train",), 3, 0.72, 0.02828, 2)]),
        (["param.gbm.num_leaves"], "-auc", [((95,), 1), ((None,), 1), ((31,), 1), ((127,), 1)]),
        (["param.gbm.num_leaves"], "-param.gbm.num_leaves", [((127,), 1), ((95,), 1), ((31,), 1), ((None,), 1)]),
        (["tag.baseline", "dirty"], "-runs", [((None, False), 2), (("yes", False), 1), ((None, True), 1)]),
    ],
)
def test_runs_are_taken_together(kept: Any, by: list[str], sort: str, expected: list[tuple[Any, ...]]) -> None:
    """How many have the same values, each metric's mean and sample deviation over those that have it, in any order."""
    answer = query.groups(kept.project, by, metrics=["auc"], sort=sort)
    assert answer.metrics == ("auc",) and answer.total == len(expected)
    for group, (values, runs, *spread) in zip(answer.groups, expected, strict=True):
        assert (group.values, group.runs) == (values, runs)
        if spread:
            found = group.metrics["auc"]
            assert found.mean == pytest.approx(spread[0]) and found.count == spread[2]
            assert found.std == (spread[1] and pytest.approx(spread[1], rel=1e-3))


def test_a_metric_that_is_no_number_does_not_count(kept: Any) -> None:
    """NaN is left out of a mean, and a group whose every value is NaN has none; the commonest metrics are shown."""
    answer = query.groups(kept.project, ["state"], "kind = train", limit=1)
    assert answer.metrics == ("auc", "loss") and answer.total == 2 and len(answer.groups) == 1
    assert set(answer.groups[0].metrics) == {"auc"}


@pytest.mark.parametrize(("metrics", "sort", "words"), [(["name"], "", "no metric"), ([], "message", "cannot be sorted by")])
def test_groups_have_metrics_only(kept: Any, metrics: list[str], sort: str, words: str) -> None:
    """What has no mean is refused."""
    with pytest.raises(UsageError, match=words):
        query.groups(kept.project, ["kind"], metrics=metrics, sort=sort)


def test_a_listing_says_what_was_asked_and_what_differs(kept: Any) -> None:
    """Fields by full name, for the columns of a table; parameters that are the same in all runs are not changed."""
    found = query.listing(
        kept.project, "auc > 0.7 or num_leaves = 31".replace("num", "param.gbm.num"), sort="-auc", columns=["auc", "name"]
    )
    assert found.asked == ("metric.auc", "param.gbm.num_leaves") and found.columns == ("metric.auc", "name")
    assert query.changed(found.runs) == ("param.gbm.kind", "param.gbm.num_leaves")
    assert query.changed(found.runs[:1]) == ()
    assert query.present([query.row(run) for run in found.runs])[-3:] == ("metric.auc", "metric.loss", "tag.baseline")
