from __future__ import annotations

import datetime
import enum
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from mlops_local.engines.pipeline.sources import discover
from mlops_local.worker.constants import constants, digest
from mlops_local.worker.finder import Finder, load


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Pair(NamedTuple):
    one: int
    two: int


@dataclass
class Options:
    depth: int
    names: list[str]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (1, True),
        ("a", b"a"),
        ([1, 2], (1, 2)),
        ([1, [2]], [[1], 2]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (Colour.RED, Colour.BLUE),
        (Rights(0), Rights.READ),
        (Rights.READ | Rights.WRITE, Rights.READ),
        (Pair(1, 2), (1, 2)),
        (Options(1, ["a"]), Options(1, ["b"])),
        (datetime.date(2024, 1, 1), datetime.date(2024, 1, 2)),
        (Path("a"), Path("b")),
        (np.arange(3), np.arange(4)),
        (np.arange(4), np.arange(4.0)),
        (np.float32(1), np.float64(1)),
        ({1, 2}, {1, 3}),
    ],
)
def test_another_value_has_another_digest(one: Any, other: Any) -> None:
    """Kind, contents and order of data count."""
    assert digest(one, "/root") != digest(other, "/root")
    assert digest(one, "/root")


def test_places_and_set_order_do_not_count() -> None:
    """A project that lies elsewhere has the same values, and a set has no order."""
    assert digest(Path("/here/data"), "/here") == digest(Path("/there/data"), "/there")
    assert digest({"a", "b", "c"}, "/") == digest({"c", "b", "a"}, "/")


def test_what_is_no_data_has_no_digest() -> None:
    """Objects are not looked into, and code of theirs never runs."""

    class Loud:
        def __repr__(self) -> str:
            raise AssertionError

        __eq__ = __hash__ = None  # type: ignore[assignment]

    assert digest(Loud(), "/") == ""
    assert digest(np.array([Loud()], dtype=object), "/") == ""
    assert digest([0] * 300_000, "/") == ""
    assert digest(set(range(300_000)), "/") == ""
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    assert digest(deep, "/") == ""
    around: list[Any] = []
    around.append(around)
    assert digest(around, "/")


def test_large_values_are_looked_into_up_to_a_limit() -> None:
    """A whole number of any length counts, texts and arrays up to a size that all of a value share."""
    assert digest(2**20_000, "/") != digest(2**20_000 + 1, "/")
    assert digest(2**20_000, "/")
    large = "x" * (40 << 20)
    assert digest(large, "/")
    assert digest([large, large], "/") == ""
    assert digest([large.encode(), np.zeros(40 << 20, dtype=np.uint8)], "/") == ""


def test_names_of_computed_values_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers and texts that are written down are not reported; what is computed or can change is."""
    (tmp_path / "measured_here.py").write_text(
        "import math\nPLAIN = 3\nSUM = 1 + 2\nLIST = [1]\nA, B = math.floor(2.5), 4\nfor word in 'ab':\n    LIST.append(word)\n"
        "def f(): ...\nf2 = f\n"
    )
    sources = discover("measured_here.py", lambda path: (tmp_path / path).read_bytes() if (tmp_path / path).exists() else None)
    finder = Finder(tmp_path, sources, report=True)
    monkeypatch.setattr("sys.meta_path", [finder, *__import__("sys").meta_path])
    load(finder, "measured_here")
    assert set(constants(finder)) == {f"measured_here.{name}" for name in ("SUM", "LIST", "A", "B", "word")}
