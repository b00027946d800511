from __future__ import annotations

import time
from typing import Any

import pytest

from mlops_local.domain import events
from mlops_local.domain.errors import AmbiguousReference, UsageError
from mlops_local.services import history, life, query, references
from mlops_local.store import ledger, projection, registry


def _names(story: Any, where: str = "") -> list[str]:
    return [run.name for run in query.listing(story.project, where).runs]


def test_tags_notes_and_names_are_what_was_said_last(story: Any) -> None:
    """A tag set, changed and taken off; notes add up; the new name is found and the old is not; a rebuild says the same."""
    story.run("amber-fox", tags={"team": "a"})
    assert life.tag(story.project, "@1", {"team": "b", "odd key": "x=y"}) == {"team": "b", "odd key": "x=y"}
    assert life.tag(story.project, "@1", {"kept": "'; DROP"}, remove=["odd key"]) == {"team": "b", "kept": "'; DROP"}
    life.note(story.project, "@1", "first")
    life.note(story.project, "@1", "second \x1b[31m")
    life.rename(story.project, "amber-fox", "wide and shallow")
    for _ in range(2):
        detail = history.detail(story.project, references.resolve(story.project, "wide and shallow"))
        assert detail.tags == {"team": "b", "kept": "'; DROP"} and detail.notes == ("first", "second \x1b[31m")
        assert _names(story, "tag.team = b") == ["wide and shallow"]
        projection.rebuild(story.project.store)
    with pytest.raises(UsageError, match="amber-fox"):
        references.resolve(story.project, "amber-fox")


def test_what_a_clock_that_was_ahead_said_is_not_the_last_word(story: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tag and a name given an hour from now, by another machine's clock, are replaced by those given afterwards."""
    story.run("amber-fox")
    real = time.time_ns
    with monkeypatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: real() + 3_600_000_000_000)
        life.tag(story.project, "@1", {"team": "a"})
        life.rename(story.project, "@1", "bold-owl")
    life.tag(story.project, "@1", {"team": "b"})
    life.rename(story.project, "@1", "calm-elk")
    assert _names(story, "tag.team = b") == ["calm-elk"]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda project: life.tag(project, "@1", {"": "x"}), "needs a name"),
        (lambda project: life.tag(project, "@1", {}, remove=["no"]), "has no tag 'no'"),
        (lambda project: life.note(project, "@1", " "), "empty"),
        (lambda project: life.rename(project, "@1", ""), "cannot be a run's name"),
        (lambda project: life.rename(project, "@1", "delay@3"), "cannot be a run's name"),
        (lambda project: life.remove(project, ["nobody"]), "nobody"),
        (lambda project: life.take_back(project, ["@1"]), "no removed run"),
    ],
)
def test_what_cannot_be_meant_is_refused(story: Any, call: Any, words: str) -> None:
    """With a message, and nothing is written."""
    story.run("amber-fox")
    with pytest.raises(UsageError, match=words):
        call(story.project)
    assert _names(story) == ["amber-fox"] and history.detail(story.project, references.resolve(story.project, "@1")).tags == {}


def test_a_removed_run_is_in_no_list_until_it_is_taken_back(story: Any) -> None:
    """Not in runs, not @1, not in any view, also after a rebuild; taken back by its id or name it is whole again."""
    story.run("amber-fox", params={"x": 1}, metrics={"auc": 0.7}, tags={"t": "1"})
    last = story.run("bold-owl", params={"y": 2}, metrics={"auc": 0.8}, tags={"u": "2"})
    before = query.runs(story.project)
    assert [one.name for one in life.removals(story.project, ["@1", "bold-owl"])] == ["bold-owl"]
    assert _names(story) == ["bold-owl", "amber-fox"]
    life.remove(story.project, ["@1"], reason="a mistake")
    for _ in range(2):
        assert _names(story) == ["amber-fox"] and references.resolve(story.project, "@1") != last
        with story.project.store.reader() as db:
            for view, column in (("run", "id"), ("param", "run"), ("tag", "run"), ("metric", "run"), ("metric_last", "run")):
                assert db.execute(f"SELECT count(*) FROM {view} WHERE {column} = ?", [last]).fetchall() == [(0,)], view
        projection.rebuild(story.project.store)
    assert registry.load(story.project.layout).removed == {last}
    with pytest.raises(UsageError):
        references.resolve(story.project, "bold-owl")
    assert [one.id for one in life.take_back(story.project, ["bold-owl"])] == [last]
    assert query.runs(story.project) == before
    projection.rebuild(story.project.store)
    assert query.runs(story.project) == before and registry.load(story.project.layout).removed == frozenset()
    life.remove(story.project, [last[16:24]])
    assert _names(story) == ["amber-fox"]


def test_removing_several_is_all_or_none(story: Any) -> None:
    """One that must stay keeps the others."""
    story.run("amber-fox")
    story.run("bold-owl", state=None)
    with pytest.raises(UsageError, match="bold-owl is running") as caught:
        life.remove(story.project, ["amber-fox", "bold-owl"])
    assert "mlops stop" in caught.value.hint and len(_names(story)) == 2


def test_where_a_served_model_comes_from_stays(story: Any) -> None:
    """The champion's run and an approved version's are refused, with the version; another version goes on without its run."""
    first = story.version("delay", 0.70, run=story.run("amber-fox"))
    second = story.version("delay", 0.72, run=story.run("bold-owl"))
    third = story.version("delay", 0.73, run=story.run("calm-elk"))
    ledger.append(story.project.layout, events.STATE, first.id, "approved", expect="new")
    story.champion(second)
    for name, words in (("amber-fox", "delay@1, which is approved"), ("bold-owl", "delay@2, which is delay@champion")):
        with pytest.raises(UsageError, match=words):
            life.remove(story.project, [name])
    assert life.remove(story.project, ["calm-elk"])[0].versions == (third.id,)
    assert third.id in registry.load(story.project.layout).versions


def test_what_gc_has_collected_does_not_come_back(story: Any) -> None:
    """A run without its files would be a lie."""
    run = story.run("amber-fox")
    life.remove(story.project, ["amber-fox"])
    ledger.append(story.project.layout, events.COLLECTED, "objects", None, data={"runs": [run]})
    with pytest.raises(UsageError, match="collected its files"):
        life.take_back(story.project, ["amber-fox"])


def test_removed_runs_of_one_name_are_listed(story: Any) -> None:
    """Nothing is guessed."""
    story.run("amber-fox")
    story.run("amber-fox")
    life.remove(story.project, ["@1", "@2"])
    with pytest.raises(AmbiguousReference, match="2 removed runs"):
        life.take_back(story.project, ["amber-fox"])
