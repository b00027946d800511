"""The few numbers a column holds and how often each is there, as two arrays: 10,000 columns may have ten million of them.

As a dictionary each took 160 bytes, and every look at it went through them one by one. Opens nothing; numpy is loaded only
where two such are added up, or something is made of one.
"""

from __future__ import annotations

import base64
import bisect
import sys
from array import array
from collections.abc import Iterator, Mapping, Sequence, ValuesView
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import numpy as np

    Numbers = np.ndarray[Any, Any]

FACTORS = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9


class Counted(Mapping[Any, int]):
    """Number -> how often it is there; as any mapping of the same pairs. Never changed."""

    __slots__ = ("numbers", "times")

    def __init__(self, numbers: array[Any], times: array[int]) -> None:
        """Take numbers in order, each once, none NaN, and how often each is there."""
        if len(numbers) != len(times):
            raise ValueError("columns of different lengths")
        self.numbers, self.times = numbers, times

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.numbers)

    def __getitem__(self, number: Any) -> int:
        place = bisect.bisect_left(self.numbers, number)
        if place == len(self.numbers) or self.numbers[place] != number:
            raise KeyError(number)
        return self.times[place]

    def values(self) -> ValuesView[int]:
        """How often each number is there, in their order; what a mapping has by itself looks each of them up."""
        return cast("ValuesView[int]", self.times)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Counted):
            return (self.numbers, self.times) == (other.numbers, other.times)
        return isinstance(other, Mapping) and dict(zip(self.numbers, self.times, strict=True)) == other

    __hash__ = None  # type: ignore[assignment]  # as of any mapping

    def __repr__(self) -> str:
        return f"Counted({dict(zip(self.numbers, self.times, strict=True))})"

    def most(self, count: int) -> dict[Any, float]:
        """Return the most frequent numbers, the most frequent first; of equally frequent ones the smallest."""
        if max(self.times, default=0) <= 1:  # as of most measurements
            return dict.fromkeys(self.numbers[:count], 1)
        places = sorted(range(len(self.times)), key=self.times.__getitem__, reverse=True)[:count]
        return {self.numbers[place]: self.times[place] for place in places}


def of(numbers: Numbers, times: Numbers) -> Counted:
    """Return numbers in order, each once, with how often each is there."""
    kept = array({"f": "d", "i": "q", "u": "Q"}[numbers.dtype.kind])
    kept.frombytes(numbers.astype(f"{numbers.dtype.kind}8", copy=False).tobytes())
    most = times.max(initial=0)
    often = array("B" if most < 1 << 8 else "H" if most < 1 << 16 else "Q")  # mostly few: each in a byte
    often.frombytes(times.astype(often.typecode, copy=False).tobytes())
    return Counted(kept, often)


def arrays(counts: Counted) -> tuple[Numbers, Numbers]:
    """The numbers, and how often each is there, to be calculated with."""
    import numpy as np  # noqa: PLC0415  (60 ms, and of pictures and a single table nobody asks)

    return np.asarray(counts.numbers), np.asarray(counts.times).astype(np.int64)


def both(one: Mapping[Any, int], other: Mapping[Any, int]) -> Mapping[Any, int]:
    """Return how often each value of either is there."""
    if not one or not other:
        return other or one
    if not (isinstance(one, Counted) and isinstance(other, Counted) and one.numbers.typecode == other.numbers.typecode):
        made = dict(one.items())
        for value, count in other.items():
            made[value] = made.get(value, 0) + count
        return made
    import numpy as np  # noqa: PLC0415  (as above)

    numbers = np.concatenate([np.asarray(one.numbers), np.asarray(other.numbers)])
    times = np.concatenate([np.asarray(one.times), np.asarray(other.times)]).astype(np.int64)
    order = np.argsort(numbers, kind="stable")
    numbers = numbers[order]
    first = np.flatnonzero(np.concatenate([[True], numbers[1:] != numbers[:-1]]))
    return of(numbers[first], np.add.reduceat(times[order], first))


def hashes(counts: Mapping[Any, int]) -> array[int]:
    """The hashes of numbers, in order; none of anything else: its hashes were kept with it."""
    found = array("Q")
    if isinstance(counts, Counted):
        import numpy as np  # noqa: PLC0415  (as above)

        numbers = np.asarray(counts.numbers)
        found.frombytes(np.sort(hashed(numbers, np.empty(len(numbers), dtype=np.uint64))).tobytes())
    return found


def quantiles(counts: Mapping[Any, int], levels: Sequence[float]) -> list[tuple[float, list[float]]]:
    """How many finite numbers there are, and their quantiles at some levels; nothing of anything else."""
    if not counts or isinstance(next(iter(counts)), (bool, str)):
        return []
    import numpy as np  # noqa: PLC0415  (as above)

    numbers = np.fromiter(counts, dtype=np.float64, count=len(counts))
    times = np.fromiter(counts.values(), dtype=np.int64, count=len(counts))
    order = np.argsort(numbers, kind="stable")
    order = order[np.isfinite(numbers[order])]
    if not len(order):
        return []
    upto = np.cumsum(times[order])
    wanted = np.maximum(np.ceil(np.asarray(levels) * upto[-1]), 1)
    return [(float(upto[-1]), numbers[order[np.searchsorted(upto, wanted)]].tolist())]


def hashed(numbers: Numbers, room: Numbers) -> Numbers:
    """Hash numbers: of equal ones equal, whatever their type.

    Args:
        numbers: whole or floating ones.
        room: as many whole numbers without sign of 64 bits, to put the hashes in.
    """
    import numpy as np  # noqa: PLC0415  (it is there: the caller has an array)

    if numbers.dtype.kind == "f":
        np.add(numbers, 0.0, out=room.view(np.float64))  # the negative zero is zero
    else:
        np.copyto(room.view(np.int64), numbers, casting="same_kind")
    np.multiply(room, np.uint64(FACTORS[0]), out=room)  # now the high bytes hang together with all others,
    np.multiply(room.byteswap(inplace=True), np.uint64(FACTORS[1]), out=room)  # and those with them
    return room


def packed(numbers: array[Any]) -> str:
    """Numbers as text: which they are, then their bytes, the highest first."""
    if sys.byteorder == "little":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers.typecode + base64.b64encode(numbers.tobytes()).decode()


def unpacked(text: str) -> array[Any]:
    """Back from `packed`. Raises ValueError, TypeError or IndexError where it is none."""
    numbers = array(text[0], base64.b64decode(text[1:]))
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers
