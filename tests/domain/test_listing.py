"""Many files as columns, and what is believed of those that look as they did."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlops_local.domain.listing import RACY_NS, STAMP, Hashed, Listing, settled, stamps

OLD = 1_700_000_000_000_000_000
files = st.dictionaries(st.text("ab/é\udcff", min_size=1, max_size=4), st.tuples(*[st.integers(0, 2)] * STAMP), max_size=6)


def listing(held: dict[str, tuple[int, ...]]) -> Listing:
    """Files in order, with stamps long ago."""
    return Listing(sorted(held), stamps([OLD + number for path in sorted(held) for number in held[path]]))


@given(files, files)
def test_a_hash_is_believed_exactly_where_path_and_stamp_are_the_same(
    before: dict[str, tuple[int, ...]], now: dict[str, tuple[int, ...]]
) -> None:
    """Whatever was added, removed or touched: every other file keeps its hash, and no file gets another's."""
    held = Hashed(listing(before), [f"hash of {path}" for path in sorted(before)])
    expected = [f"hash of {path}" if before.get(path) == now[path] else "" for path in sorted(now)]
    assert held.of(listing(now)) == expected
    assert held.of(listing(before)) == held.hashes


@given(files, st.data())
def test_what_was_young_when_it_was_hashed_is_hashed_again(held: dict[str, tuple[int, ...]], data: st.DataObject) -> None:
    """Within two seconds of a write the same stat can hide another write: such a hash is forgotten, all others are kept."""
    now = listing(held)
    hashes = [f"hash of {path}" for path in now.paths]
    places = data.draw(st.sets(st.sampled_from(range(len(hashes)))) if hashes else st.just(set()))
    newest = {place: max(now.stamp(place)[2:]) for place in places}
    young = {place for place in places if data.draw(st.booleans())}
    hashed_at = {place: newest[place] + RACY_NS + (0 if place in young else 1) for place in places}
    believed = settled(now, hashes, hashed_at).of(now)
    assert believed == ["" if place in young else hash for place, hash in enumerate(hashes)]


def test_numbers_beyond_64_bits_of_sign_are_compared_too() -> None:
    """Some file systems number inodes up to 2^64, and a time can lie beyond 2262: other numbers, another stamp."""
    one, other = ([(1 << 64) - 7, 5, 1 << 63, OLD], [(1 << 64) - 8, 5, 1 << 63, OLD])
    assert stamps(one) == stamps(one) != stamps(other)
    now = Listing(["a"], stamps(one))
    assert settled(now, ["hash"], {0: OLD + RACY_NS + 1}).of(now) == ["hash"]
