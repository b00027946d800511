from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mlops_local.domain.assets import ColumnProfile, GateResult
from mlops_local.domain.errors import UsageError
from mlops_local.services import compare, life
from mlops_local.store.journal import Journal


@pytest.fixture
def two(story: Any, make_result: Any, make_snapshot: Any) -> Any:
    """Two runs that differ in one parameter, one function, one package, one source and one metric."""
    story.run(
        "amber-fox",
        params={"gbm.num_leaves": 31, "gbm.seed": 1},
        metrics={"auc": 0.70, "brier": 0.1},
        results=(
            make_result("split", code={"pipeline.split": "s1", "pipeline.HOURS": "h1"}),
            make_result("gbm", code={"pipeline.gbm": "g1"}, env={"lightgbm": "4.6.0", "python": "3.11"}),
        ),
        snapshots=(make_snapshot("flights", "aa" * 32), make_snapshot("weather", "cc" * 32)),
    )
    story.run(
        "bold-owl",
        params={"gbm.num_leaves": 95, "gbm.seed": 1, "gbm.extra": True},
        metrics={"auc": 0.72, "brier": 0.1},
        results=(
            make_result("split", code={"pipeline.split": "s1", "pipeline.HOURS": "h2"}),
            make_result("gbm", code={"pipeline.gbm": "g1"}, env={"lightgbm": "4.7.0", "python": "3.11"}),
        ),
        snapshots=(make_snapshot("flights", "bb" * 32), make_snapshot("weather", "cc" * 32)),
    )
    return story


def _differing(answer: compare.Comparison) -> dict[str, dict[str, tuple[Any, ...]]]:
    return {name: {row.name: row.values for row in rows if row.differs} for name, rows in answer.sections.items()}


def test_two_runs_differ_in_exactly_what_was_changed(two: Any) -> None:
    """Parameters, metrics, code by symbol, snapshots and packages; what is equal is not a difference."""
    answer = compare.compare(two.project, ["@2", "@1"])
    assert [subject.label.split()[1] for subject in answer.subjects] == ["amber-fox", "bold-owl"]
    assert _differing(answer) == {
        "metrics": {"auc": (0.70, 0.72)},
        "params": {"gbm.num_leaves": (31, 95), "gbm.extra": (None, True)},
        "code": {"pipeline.HOURS": ("h1", "h2")},
        "data": {"flights": ("aaaaaaaa", "bbbbbbbb")},
        "env": {"lightgbm": ("4.6.0", "4.7.0")},
        "environment": {},
    }
    assert answer.differs


def test_a_metric_has_its_difference_last_minus_first(two: Any) -> None:
    """Turning the order turns the sign."""
    forth = {row.name: row.difference for row in compare.compare(two.project, ["@2", "@1"]).sections["metrics"]}
    back = {row.name: row.difference for row in compare.compare(two.project, ["@1", "@2"]).sections["metrics"]}
    assert forth["auc"] == pytest.approx(0.02) and back["auc"] == pytest.approx(-0.02) and forth["brier"] == 0


def test_a_run_compared_with_itself_differs_in_nothing(two: Any) -> None:
    """--exit-code is 0 then."""
    assert not compare.compare(two.project, ["@1", "bold-owl"]).differs


def test_nan_equals_nan(story: Any) -> None:
    """A metric that is NaN in both is not a difference, in one it is."""
    story.run("a", metrics={"loss": float("nan")})
    story.run("b", metrics={"loss": float("nan")})
    story.run("c", metrics={"loss": 0.5})
    assert not compare.compare(story.project, ["a", "b"]).differs
    assert compare.compare(story.project, ["b", "c"]).differs


def test_a_whole_number_that_no_float_holds_has_no_difference(story: Any) -> None:
    """It is shown beside the other; nothing fails."""
    story.run("a", params={"bits": 2**2000})
    story.run("b", params={"bits": 0.5})
    (row,) = compare.compare(story.project, ["a", "b"]).sections["params"]
    assert (row.values, row.difference) == ((2**2000, 0.5), None)


def test_versions_compare_with_their_verdict_and_what_their_runs_used(two: Any) -> None:
    """A version brings its own metrics and data, its run's parameters and code, and the ledger's verdict."""
    first = two.version("delay", 0.70, run=compare_id(two, "amber-fox"), snapshots={"flights": "aa" * 32})
    second = two.version("delay", 0.72, run=compare_id(two, "bold-owl"), snapshots={"flights": "bb" * 32})
    two.champion(first)
    two.verdict(second, "pass", first.id, GateResult("auc", "max_drop 0.005", "pass", difference=0.02))
    answer = compare.compare(two.project, ["delay@champion", "delay@latest"])
    differing = _differing(answer)
    assert differing["metrics"] == {"auc": (0.70, 0.72)} and differing["code"] == {"pipeline.HOURS": ("h1", "h2")}
    assert differing["data"] == {"flights": ("aaaaaaaa", "bbbbbbbb")}
    assert answer.verdict is not None and answer.verdict.version == second.id and answer.notes == ()


def compare_id(story: Any, name: str) -> str:
    from mlops_local.services import references

    return references.resolve(story.project, name)


def test_numbers_from_different_rows_are_not_comparable_and_it_says_so(story: Any) -> None:
    """Two versions evaluated on different rows come with a note."""
    story.version("delay", 0.70, evaluation="june")
    story.version("delay", 0.72, evaluation="july")
    (note,) = compare.compare(story.project, ["delay@1", "delay@2"]).notes
    assert "different rows" in note


def test_a_version_whose_run_was_removed_compares_by_what_it_has_itself(two: Any) -> None:
    """Its metrics; what only the run knew is said not to be known."""
    old = two.version("delay", 0.70, run=compare_id(two, "amber-fox"))
    new = two.version("delay", 0.72, run=compare_id(two, "bold-owl"))
    life.remove(two.project, ["amber-fox"])
    answer = compare.compare(two.project, [old.id, new.id])
    assert _differing(answer)["metrics"] == {"auc": (0.70, 0.72)}
    assert _differing(answer)["params"]["gbm.num_leaves"] == (None, 95)
    assert [note for note in answer.notes if f"the run that made {old.id} is not here" in note]


def test_one_thing_alone_cannot_be_compared(two: Any) -> None:
    """Exit 2, with an example."""
    with pytest.raises(UsageError) as caught:
        compare.compare(two.project, ["@1"])
    assert "mlops compare @2 @1" in caught.value.hint


def test_a_snapshot_is_not_a_run(two: Any) -> None:
    """What cannot be compared here is not found here."""
    with pytest.raises(UsageError, match="flights"):
        compare.compare(two.project, ["@1", "flights"])


def test_data_differ_by_rows_and_columns(story: Any, make_snapshot: Any) -> None:
    """Beside a snapshot's id: how many rows, which columns came, went or changed their type."""
    before, after = make_snapshot("flights", "aa" * 32, rows=10), make_snapshot("flights", "bb" * 32, rows=12)
    columns = [{"day": "Date", "delay": "Int64", "gone": "String"}, {"day": "Date", "delay": "Float64", "new": "String"}]
    for name, taken, types in zip(("a", "b"), (before, after), columns, strict=True):
        profile = tuple(ColumnProfile(column, kind) for column, kind in types.items())
        story.run(name, snapshots=(replace(taken, columns=profile),))
    assert _differing(compare.compare(story.project, ["a", "b"]))["data"] == {
        "flights": ("aaaaaaaa", "bbbbbbbb"),
        "flights rows": (10, 12),
        "flights.delay": ("Int64", "Float64"),
        "flights.gone": ("String", None),
        "flights.new": (None, "String"),
    }


def test_three_runs_differ_in_environment_packages_and_curves(story: Any) -> None:
    """Host, Python, command line and recorded variables; packages of scripts too; the curves of metrics with several points."""
    for name, python, version, points in (("a", "3.11", "1.0", 3), ("b", "3.12", "1.0", 0), ("c", "3.12", "2.0", 1)):
        run = story.run(name, python=python, packages={"numpy": version}, env={"OMP_NUM_THREADS": "2"}, argv=["train.py", name])
        journal = Journal.open(story.project.layout.journal)
        for step in range(points):
            journal.metric(run, "loss", 1.0 - step / 4, step)
        journal.close()
    answer = compare.compare(story.project, ["a", "b", "c"])
    differing = _differing(answer)
    assert differing["environment"] == {
        "command": ("train.py a", "train.py b", "train.py c"),
        "python": ("3.11", "3.12", "3.12"),
    }
    assert differing["env"] == {"numpy": ("1.0", "1.0", "2.0")}
    assert answer.curves == {"loss": ((1.0, 0.75, 0.5), (), (1.0,))}
