"""Requests of one turn share a call, and none suffers for another."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mlops_local.server.batch import MOST_ROWS, MOST_TURNS, Batcher, Rows


class Doubler:
    """Doubles `x`; remembers the size of each call."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, rows: Rows) -> tuple[Any, list[Any]]:
        self.calls.append(len(rows))
        return "by", [row["x"] * 2 for row in rows]


async def test_one_turn_one_call() -> None:
    """Requests submitted in one turn of the loop are answered by one call, each with its own rows in order."""
    double = Doubler()
    batcher = Batcher(double)
    answers = await asyncio.gather(*(batcher.submit([{"x": at}, {"x": at + 100}]) for at in range(5)))
    assert double.calls == [10]
    assert answers == [("by", [at * 2, (at + 100) * 2]) for at in range(5)]


async def test_nobody_waits_for_company() -> None:
    """A lone request is answered as soon as one turn brought nobody new."""
    future = Batcher(Doubler()).submit([{"x": 1}])
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert future.done()


async def test_followers_share_the_call_but_do_not_put_it_off_for_ever() -> None:
    """Requests of the following turns join the call; however many follow, it starts after a bounded number of turns."""
    double = Doubler()
    batcher = Batcher(double)
    first = batcher.submit([{"x": 0}])
    followers = []
    for turn in range(MOST_TURNS + 5):
        await asyncio.sleep(0)
        followers.append(batcher.submit([{"x": turn}]))
    assert first.done()
    assert double.calls[0] in range(2, MOST_TURNS + 2)
    await asyncio.gather(*followers)
    assert sum(double.calls) == 1 + len(followers)


async def test_wrong_rows_hurt_only_their_request() -> None:
    """When one request's rows raise, the others are answered and that one gets its own error."""
    batcher = Batcher(Doubler())
    good, bad, other = batcher.submit([{"x": 1}]), batcher.submit([{"y": 1}]), batcher.submit([{"x": 3}])
    assert await good == ("by", [2])
    assert await other == ("by", [6])
    with pytest.raises(KeyError, match="x"):
        await bad


async def test_calls_are_bounded() -> None:
    """No call takes more than its share of rows, and nothing is lost at the seams."""
    double = Doubler()
    batcher = Batcher(double)
    answers = await asyncio.gather(*(batcher.submit([{"x": at}] * 100) for at in range(7)))
    assert max(double.calls) <= MOST_ROWS
    assert sum(double.calls) == 700
    assert [answer[1] for answer in answers] == [[at * 2] * 100 for at in range(7)]


async def test_cancelled_request() -> None:
    """A request cancelled while it waited does not disturb the rest."""
    batcher = Batcher(Doubler())
    gone, stays = batcher.submit([{"x": 1}]), batcher.submit([{"x": 2}])
    gone.cancel()
    assert await stays == ("by", [4])
