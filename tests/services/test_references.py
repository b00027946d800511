from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from mlops_local.domain.errors import AmbiguousReference, UsageError
from mlops_local.services import references


def _git(root: Path, *arguments: str) -> str:
    options = ["-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
    return subprocess.run(["git", *options, *arguments], cwd=root, check=True, capture_output=True, text=True).stdout.strip()


def test_a_run_is_known_by_id_short_id_prefix_and_name(story: Any) -> None:
    """Every way a person copies a run's name works."""
    first = story.run("amber-fox", random=0xABC1_0000_0000_0000)
    story.run("bold-owl", random=0xABD2_0000_0000_0000)
    for text in (first, "abc10000", "abc1", "abc", "amber-fox", first[:20]):
        assert references.resolve(story.project, text) == first, text


def test_a_prefix_or_name_that_fits_several_runs_lists_them(story: Any) -> None:
    """Never a guess: exit 2, the candidates newest first."""
    story.run("amber-fox", random=0xABC1_0000_0000_0000)
    story.run("amber-fox", random=0xABD2_0000_0000_0000)
    for text in ("ab", "amber-fox"):
        with pytest.raises(AmbiguousReference) as caught:
            references.resolve(story.project, text)
        assert caught.value.candidates == ("abd20000 amber-fox", "abc10000 amber-fox") and caught.value.exit_code == 2


def test_a_full_short_id_wins_over_longer_matches(story: Any) -> None:
    """What `mlops runs` shows can be pasted, even when another run is called so."""
    first = story.run("amber-fox", random=0xABC1_0000_0000_0000)
    story.run("abc10000")
    assert references.resolve(story.project, "abc10000") == first


def test_runs_count_from_the_newest(story: Any) -> None:
    """@latest and @1 are the newest, @2 the one before; beyond the end is an error, as is @0."""
    ids = [story.run(name) for name in ("a", "b", "c")]
    resolve = references.resolve
    assert [resolve(story.project, text) for text in ("@latest", "@1", "@2", "@3")] == [ids[2], ids[2], ids[1], ids[0]]
    for text in ("@4", "@0"):
        with pytest.raises(UsageError, match="not that many runs"):
            resolve(story.project, text)


def test_an_empty_project_says_there_are_no_runs(story: Any) -> None:
    """The first question in a new project gets an answer."""
    with pytest.raises(UsageError, match="no runs yet"):
        references.resolve(story.project, "@latest")


def test_a_name_nobody_has_names_the_nearest(story: Any) -> None:
    """A typo gets its correction."""
    story.run("amber-fox")
    with pytest.raises(UsageError) as caught:
        references.find(story.project, "amber-fix")
    assert "amber-fox" in caught.value.hint


def test_a_git_revision_is_the_newest_run_of_that_commit(story: Any) -> None:
    """HEAD~1 and git:COMMIT name runs by what was checked out."""
    root = story.project.root
    _git(root, "init", "-q")
    commits = []
    for number in range(2):
        _git(root, "commit", "-q", "--allow-empty", "-m", str(number))
        commits.append(_git(root, "rev-parse", "HEAD"))
    old = story.run("old", commit=commits[0])
    again = story.run("again", commit=commits[0])
    new = story.run("new", commit=commits[1])
    resolve = references.resolve
    assert resolve(story.project, "HEAD") == new and resolve(story.project, "HEAD~1") == again != old
    assert resolve(story.project, f"git:{commits[0][:7]}") == again
    with pytest.raises(UsageError, match="knows no commit"):
        resolve(story.project, "HEAD~7")
    _git(root, "commit", "-q", "--allow-empty", "-m", "untrained")
    with pytest.raises(UsageError, match="no run was made at commit"):
        resolve(story.project, "HEAD")


def test_a_version_is_known_by_number_alias_and_model(story: Any) -> None:
    """delay@2, delay@champion, @champion where there is one model, delay@latest, and the bare model."""
    first, second = story.version("delay", 0.71), story.version("delay", 0.70)
    story.champion(first)
    resolve = references.resolve
    for text, version in {
        "delay@1": first,
        "delay@2": second,
        "delay@champion": first,
        "@champion": first,
        "delay": first,
        "delay@latest": second,
        "@latest": second,
    }.items():
        assert resolve(story.project, text, "version") == version.id, text


def test_a_model_without_a_champion_means_its_newest_version(story: Any) -> None:
    """Before anything is promoted, the bare name still works."""
    story.version("delay", 0.71)
    newest = story.version("delay", 0.70)
    assert references.resolve(story.project, "delay", "version") == newest.id


def test_the_best_is_chosen_within_one_evaluation_set(story: Any) -> None:
    """A higher number on other rows is not better; for a loss, smaller is."""
    story.version("delay", 0.99, evaluation="other rows")
    best = story.version("delay", 0.74)
    story.version("delay", 0.72)
    assert references.resolve(story.project, "delay@best", "version") == best.id
    small = story.version("price", 0.2, metric="rmse")
    story.version("price", 0.3, metric="rmse")
    assert references.resolve(story.project, "price@best", "version") == small.id


def test_with_several_models_an_alias_needs_its_model(story: Any) -> None:
    """@champion alone would be a guess."""
    story.champion(story.version("delay", 0.7))
    story.champion(story.version("price", 0.7))
    with pytest.raises(AmbiguousReference) as caught:
        references.resolve(story.project, "@champion", "version")
    assert set(caught.value.candidates) == {"delay@champion", "price@champion"}


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("delay@9", "delay@1"),
        ("delya@1", "delay@1"),
        ("delay@champoin", "delay@champion"),
        ("delay@challenger", "mlops model ls"),
    ],
)
def test_a_version_that_is_not_there_names_what_is(story: Any, text: str, hint: str) -> None:
    """A wrong number, model or alias is answered with the nearest that exists."""
    story.version("delay", 0.7)
    with pytest.raises(UsageError) as caught:
        references.resolve(story.project, text, "version")
    assert hint in caught.value.hint


def test_a_run_and_its_version_stand_for_each_other(story: Any) -> None:
    """`mlops compare delay@1 @1` and `mlops logs delay@champion` mean what a person expects."""
    run = story.run("amber-fox")
    version = story.version("delay", 0.7, run=run)
    story.champion(version)
    assert references.resolve(story.project, "delay@champion", "run") == run
    assert references.resolve(story.project, "amber-fox", "version") == version.id
    assert references.resolve(story.project, "@1", "version") == version.id


def test_snapshots_are_known_by_source_place_and_prefix(story: Any, make_snapshot: Any) -> None:
    """flights is the newest, flights@~1 the one before; an id's beginning works too."""
    story.run("a", snapshots=(make_snapshot("flights", "aa" * 32), make_snapshot("weather", "cc" * 32)))
    story.run("b", snapshots=(make_snapshot("flights", "bb" * 32),))
    resolve = references.resolve
    for text, expected in {"flights": "bb", "flights@latest": "bb", "flights@~1": "aa", "aaaa": "aa", "weather": "cc"}.items():
        assert resolve(story.project, text, "snapshot") == expected * 32, text
    with pytest.raises(UsageError, match="flights has 2 snapshots"):
        resolve(story.project, "flights@~5", "snapshot")
    for text, hint in {"fligths@~1": "'flights@~1'", "flights@before": "mlops data log flights", "x": "mlops data ls"}.items():
        with pytest.raises(UsageError, match=f"no snapshot '{text}'") as caught:
            resolve(story.project, text, "snapshot")
        assert hint in caught.value.hint


def test_a_snapshot_of_a_commit_is_what_its_lock_file_says(story: Any, make_snapshot: Any) -> None:
    """flights@git:HEAD~1 reads mlops.lock from that commit, not from the working tree."""
    root = story.project.root
    story.run("a", snapshots=(make_snapshot("flights", "aa" * 32),))
    _git(root, "init", "-q")
    for identifier in ("aa" * 32, "bb" * 32):
        (root / "mlops.lock").write_text(f"source flights snapshot={identifier} rows=10 bytes=100\n")
        _git(root, "add", "mlops.lock")
        _git(root, "commit", "-q", "-m", identifier[:2])
    assert references.resolve(story.project, "flights@git:HEAD~1", "snapshot") == "aa" * 32
    with pytest.raises(UsageError, match="'HEAD~9' is no commit"):
        references.resolve(story.project, "flights@git:HEAD~9", "snapshot")
    _git(root, "rm", "-q", "mlops.lock")
    _git(root, "commit", "-q", "-m", "none")
    with pytest.raises(UsageError, match="commit 'HEAD' has no mlops"):
        references.resolve(story.project, "flights@git:HEAD", "snapshot")


@pytest.mark.parametrize(
    ("text", "kind"),
    [("@1", "run"), ("amber-fox", "run"), ("delay@1", "version"), ("delay", "version"), ("flights@~1", "snapshot")],
)
def test_anything_can_be_named_without_saying_what_it_is(story: Any, make_snapshot: Any, text: str, kind: str) -> None:
    """`mlops show REF` tells runs, versions and snapshots apart by their names."""
    run = story.run("amber-fox", snapshots=(make_snapshot("flights", "aa" * 32),))
    story.run("bold-owl", snapshots=(make_snapshot("flights", "bb" * 32),))
    story.version("delay", 0.7, run=run)
    assert references.find(story.project, text).kind == kind
