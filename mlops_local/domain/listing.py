"""Many files as columns: where they are, what their stat says, what their bytes are.

A source may have tens of thousands of files, and an object or an entry of a dict for each took longer than asking the system
about all of them. Pure values: nothing here looks at a disk.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

STAMP = 4
"""Numbers that a stamp has: inode, size, mtime_ns, ctime_ns."""
RACY_NS = 2_000_000_000
"""A file younger than this when it was hashed is hashed again next time: a write within the clock's grain leaves its stat."""


class Listing(NamedTuple):
    """Files and what their stat says."""

    paths: list[str]
    """Relative to the project's root, POSIX form, sorted."""
    stamps: array[int]
    """The stamps of all files, one after another."""

    @property
    def sizes(self) -> list[int]:
        """Bytes of each file."""
        return self.stamps[1::STAMP].tolist()

    def stamp(self, place: int) -> list[int]:
        """The stamp of one file."""
        return self.stamps[place * STAMP : (place + 1) * STAMP].tolist()


class Hashed(NamedTuple):
    """What files that looked so held: what the stat cache remembers."""

    listing: Listing
    hashes: list[str]
    """Empty text where it is not to be believed."""

    def of(self, now: Listing) -> list[str]:
        """The hash of each file of `now` that looks as it did; empty text for every other."""
        if now == self.listing:
            return self.hashes
        then: Iterable[tuple[Sequence[int], str]] = zip(_each(self.listing.stamps), self.hashes, strict=True)
        if now.paths != self.listing.paths:
            before = dict(zip(self.listing.paths, then, strict=True))
            then = [before.get(path, ((), "")) for path in now.paths]
        return [hash if stamp == seen else "" for stamp, (seen, hash) in zip(_each(now.stamps), then, strict=True)]


def stamps(numbers: Sequence[int]) -> array[int]:
    """Numbers of stamps as they are kept and compared."""
    try:
        return array("q", numbers)
    except OverflowError:  # inodes of 64 bits, a time beyond 2262
        return array("q", ((number + (1 << 63)) % (1 << 64) - (1 << 63) for number in numbers))


def settled(now: Listing, hashes: Iterable[str], hashed_at: Mapping[int, int]) -> Hashed:
    """What may be believed of these files from now on: all but those that were young when they were hashed.

    Args:
        now: the files.
        hashes: of their bytes.
        hashed_at: place in the listing -> when that file was hashed (ns since 1970), of those that were not known before.
    """
    hashes = list(hashes)
    for place, at in hashed_at.items():
        if at - max(now.stamp(place)[2:]) <= RACY_NS:
            hashes[place] = ""
    return Hashed(now, hashes)


def _each(numbers: array[int]) -> Iterable[tuple[int, ...]]:
    every = iter(numbers)
    return zip(every, every, every, every, strict=True)
