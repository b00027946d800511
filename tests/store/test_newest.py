"""Each step's newest result, and how long it took before."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from mlops_local.domain.plan import Output, Part, StepResult
from mlops_local.store import newest
from mlops_local.store.layout import Layout

RESULT = StepResult(
    "split", "f1", (Output("train", "parquet", "l"),), run="1", seconds=1.0, parts=(Part("env", "python", "3"),)
)


def test_the_last_one_added_is_the_newest(layout: Layout) -> None:
    """Results come back equal, by name and by fingerprint; what is not the newest any more is not found."""
    newest.add(layout, RESULT, {})
    newest.add(layout, replace(RESULT, name="fit", fingerprint="f2"), {})
    newest.add(layout, replace(RESULT, fingerprint="f3"), {})
    read = newest.read(layout)
    assert read.result("split") == replace(RESULT, fingerprint="f3")
    assert read.made("f2") == replace(RESULT, name="fit", fingerprint="f2")
    assert read.made("f1") is None and read.result("other") is None


def test_each_execution_counts_once(layout: Layout) -> None:
    """A result that is used again, or comes back with a rebuild, tells nothing new about how long the step takes."""
    first, second = replace(RESULT, run="2026-1", seconds=3.0), replace(RESULT, run="2026-2", seconds=5.0)
    for result in (first, second, first, second, first):
        newest.add(layout, result, {})
    assert newest.read(layout).seconds("split") == (3.0, 5.0)
    for number in range(100):
        newest.add(layout, replace(RESULT, run=f"2027-{number:03}", seconds=float(number)), {})
    assert newest.read(layout).seconds("split") == tuple(float(number) for number in range(75, 100))


@pytest.mark.parametrize(
    "tail", [b'\n"split"\t"f9"\t[', b"\n\n\t\t\t\n", b'\n"split"\t"f9"\t[]\t{"name"', b"\n\xff\xfe\t\t\t}"]
)
def test_what_a_crash_left_unfinished_hides_nothing(layout: Layout, tail: bytes) -> None:
    """The last whole line counts; the next result is added behind the torn one."""
    newest.add(layout, RESULT, {})
    with (layout.cache / "latest.jsonl").open("ab") as file:
        file.write(tail)
    assert newest.read(layout).result("split") == RESULT
    newest.add(layout, replace(RESULT, fingerprint="f2"), {})
    assert newest.read(layout).result("split") == replace(RESULT, fingerprint="f2")


@pytest.mark.parametrize("name", ["split", "ä ö\t\n", '"', "split\\", "../x", "\udcff"])
def test_any_name_is_one(layout: Layout, name: str) -> None:
    """No name of a step is taken for the file's own signs."""
    newest.add(layout, RESULT, {})
    newest.add(layout, replace(RESULT, name=name, fingerprint="f2"), {})
    assert newest.read(layout).made("f2") == replace(RESULT, name=name, fingerprint="f2")


def test_the_file_stays_small(layout: Layout) -> None:
    """However often the steps run, the file holds little more than each one's newest result."""
    long = replace(RESULT, parts=tuple(Part("code", f"module.{number}", "0" * 64) for number in range(100)))
    for number in range(200):
        newest.add(layout, replace(long, name=f"step{number % 4}", fingerprint=f"f{number}", run=f"{number:04}"), {})
    assert (layout.cache / "latest.jsonl").stat().st_size < 400_000
    read = newest.read(layout)
    assert [read.made(f"f{number}") is not None for number in (195, 196, 197, 198, 199)] == [False, True, True, True, True]
    assert len(read.seconds("step3")) == newest.REMEMBERED


def test_many_writers_lose_nothing(layout: Layout) -> None:
    """Steps that end at the same time are all there."""

    def work(worker: int) -> None:
        for number in range(40):
            newest.add(layout, replace(RESULT, name=f"s{worker}.{number}", fingerprint=f"{worker}.{number}" * 400), {})

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    read = newest.read(layout)
    assert all(read.result(f"s{worker}.{number}") is not None for worker in range(4) for number in range(40))
