"""Polars keeps the order of rows in a step's process, where nobody says otherwise."""

from __future__ import annotations

import json
import subprocess
import sys

SHUFFLES = """
import hashlib, json, numpy as np, polars as pl, sys
from mlops_local.engines.pipeline import order
for _ in range(int(sys.argv[1])):
    order.keep()
random = np.random.default_rng(0)
n = 200_000
frame = pl.DataFrame({"id": np.arange(n), "g": random.integers(0, 5000, n), "x": random.random(n)})
other = frame.unique("g", keep="first", maintain_order=True).select("g", y="x")[::-1]
lazy, few = frame.lazy(), other.lazy()
made = {
    "group_by": lazy.group_by("g").agg(pl.col("id").first()),
    "eager group_by": frame.group_by("g").agg(pl.col("id").first()).lazy(),
    "unique": lazy.unique("g", keep="first"),
    "eager unique": frame.unique("g", keep="first").lazy(),
    "sort": lazy.sort("g"),
    **{how: lazy.join(few.head(4000), "g", how) for how in ("inner", "left", "right", "full", "semi", "anti")},
    "how": lazy.join(few, on="g", how="left"),
    "cross": lazy.head(50).join(few.head(50), how="cross"),
    "asked": lazy.join(few, on="g", maintain_order="right"),
}
def text(frame):
    return hashlib.blake2b(frame.write_csv().encode()).hexdigest()[:8]
print(json.dumps({name: [text(query.collect(engine=engine)) for engine in ("in-memory", "streaming")]
                  for name, query in made.items()}))
"""


def made(times: int = 1) -> dict[str, list[str]]:
    done = subprocess.run([sys.executable, "-c", SHUFFLES, str(times)], capture_output=True, text=True, check=True)
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


def test_rows_come_in_the_same_order_in_every_process_and_engine() -> None:
    """Joins, groupings, unique and sorts give one order; without it groupings differ already between two processes."""
    first, second = made(1), made(2)
    assert first == second
    assert {name: len(set(both)) for name, both in first.items()} == dict.fromkeys(first, 1)
    assert first["asked"] != first["inner"] and first["left"] != first["right"]
    assert made(0)["group_by"] != first["group_by"]
