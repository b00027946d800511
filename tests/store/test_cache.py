"""Answers in small files."""

from __future__ import annotations

import pytest

from mlops_local.domain.assets import ColumnProfile, FileEntry, Snapshot
from mlops_local.domain.plan import Output, Part, StepResult
from mlops_local.store import cache, objects
from mlops_local.store.layout import Layout


def result(layout: Layout, fingerprint: str, name: str = "split") -> StepResult:
    """What a step left."""
    hash = objects.put_bytes(layout, fingerprint.encode())
    return StepResult(
        name=name,
        fingerprint=fingerprint,
        outputs=(Output("train", "parquet", "l", {"train.parquet": hash}, 3, 1),),
        run="r",
        seconds=1.5,
        parts=(Part("params", "months", "1"),),
        report={"rows": 3},
    )


SNAPSHOT = Snapshot(
    id="s1",
    source="flights",
    files=(FileEntry("data/a.parquet", "h", 10, 2),),
    rows=2,
    bytes=10,
    columns=(ColumnProfile("x", "Int64", 0, 2, "1", "2", 1.5),),
)


def test_a_result_is_found_by_fingerprint_and_as_its_steps_latest(layout: Layout) -> None:
    """Both come back equal to what was recorded; the latest is the one recorded last."""
    first, second = result(layout, "f1"), result(layout, "f2")
    cache.record(layout, first)
    cache.record(layout, second)
    assert cache.step_result(layout, "f1") == first and cache.step_result(layout, "f2") == second
    assert cache.latest(layout, "split") == second
    assert cache.step_result(layout, "f3") is None and cache.latest(layout, "other") is None


def test_a_result_whose_files_are_gone_is_none(layout: Layout) -> None:
    """A step with a missing output runs again instead of failing later."""
    made = result(layout, "f1")
    cache.record(layout, made)
    objects.path(layout, made.outputs[0].parts["train.parquet"]).unlink()
    assert cache.step_result(layout, "f1") is None
    assert cache.latest(layout, "split") == made


def test_a_result_whose_files_were_altered_is_none_and_says_so(layout: Layout) -> None:
    """A recorded result counts only while its files are what was written; why it is lost is said in words."""
    made = result(layout, "f1")
    cache.record(layout, made, written=True)
    assert cache.lost(layout, "f1") == "" == cache.lost(layout, "never")
    path = objects.path(layout, made.outputs[0].parts["train.parquet"])
    path.chmod(0o600)
    path.write_bytes(b"x" * path.stat().st_size)
    assert cache.step_result(layout, "f1") is None
    assert cache.lost(layout, "f1") == "its stored result was altered"
    path.unlink()
    assert cache.lost(layout, "f1") == "its stored result is gone"


def test_files_are_read_once_and_then_known_by_their_stamp(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came from elsewhere (a copied project, a rebuild) is hashed at its first use and not again."""
    read: list[str] = []
    verify = objects.verify

    def noted(layout: Layout, hash: str) -> bool:
        read.append(hash)
        return verify(layout, hash)

    monkeypatch.setattr(objects, "verify", noted)
    made = result(layout, "f1")
    cache.record(layout, made)
    for _ in range(3):
        assert cache.step_result(layout, "f1") == made
    assert read == [made.outputs[0].parts["train.parquet"]]
    cache.record(layout, made, written=True)
    assert cache.step_result(layout, "f1") == made and len(read) == 1


@pytest.mark.parametrize("name", ["gbm.evaluate", "../../etc/passwd", "a/b", "ä ö", "ä" * 60])
def test_any_name_stays_inside_the_cache(layout: Layout, name: str) -> None:
    """A step's name is never a path."""
    made = result(layout, "f1", name)
    cache.record(layout, made)
    assert cache.latest(layout, name) == made
    assert {path.parent for path in layout.cache.rglob("*.json*")} == {layout.cache / "steps", layout.cache}


def test_a_snapshot_comes_back_whole(layout: Layout) -> None:
    """Files and columns included; only the newest is kept here."""
    cache.save_snapshot(layout, SNAPSHOT)
    assert cache.snapshot(layout, "flights") == SNAPSHOT
    assert cache.snapshot(layout, "weather") is None


def test_graphs_come_back(layout: Layout) -> None:
    """A graph under its key; of many keys the newest twenty."""
    for number in range(25):
        cache.save_graph(layout, f"k{number}", {"n": number})
    assert cache.graph(layout, "k24") == {"n": 24}
    assert len(list((layout.cache / "graph").iterdir())) == 20


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"id": 1}', b"\xff\xfe"])
def test_a_damaged_file_counts_as_absent(layout: Layout, damage: bytes) -> None:
    """Nothing here can stop a command."""
    cache.record(layout, result(layout, "f1"))
    cache.save_snapshot(layout, SNAPSHOT)
    for path in layout.cache.rglob("*.json*"):
        path.write_bytes(damage)
    assert cache.step_result(layout, "f1") is None and cache.latest(layout, "split") is None
    assert cache.snapshot(layout, "flights") is None
