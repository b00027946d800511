"""The stat cache on disk."""

from __future__ import annotations

import blake3
from hypothesis import given
from hypothesis import strategies as st

from mlops_local.domain.listing import STAMP, Hashed, Listing, stamps
from mlops_local.store import stats
from mlops_local.store.layout import Layout

numbers = st.integers(-(1 << 63), (1 << 63) - 1)
names = st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])) | st.just("\udcff\n"), unique=True)


def hashed(paths: list[str]) -> Hashed:
    """Files that look and hold somehow."""
    looks = stamps([len(path) + number for path in paths for number in range(STAMP)])
    return Hashed(Listing(paths, looks), [blake3.blake3(repr(path).encode()).hexdigest() for path in paths])


@given(names, st.data())
def test_whatever_is_remembered_comes_back(paths: list[str], data: st.DataObject) -> None:
    """Names that are not UTF-8 or hold a newline, any numbers, hashes that are not to be believed, no file at all."""
    looks = stamps(data.draw(st.lists(numbers, min_size=STAMP * len(paths), max_size=STAMP * len(paths))))
    hashes = [hash if data.draw(st.booleans()) else "" for hash in hashed(paths).hashes]
    value = Hashed(Listing(paths, looks), hashes)
    assert stats.decoded(stats.encoded(value)) == value


def test_sources_have_a_file_each(layout: Layout) -> None:
    """What is known of one source's files says nothing of another's, and any name is no path."""
    assert stats.read(layout, "rows") is None
    stats.save(layout, "rows", hashed(["a"]))
    stats.save(layout, "../rows", hashed(["b"]))
    assert stats.read(layout, "rows") == hashed(["a"]) and stats.read(layout, "../rows") == hashed(["b"])
    assert {path.parent for path in layout.cache.rglob("*.bin")} == {layout.cache / "stats"}


def test_a_damaged_file_is_none(layout: Layout) -> None:
    """Cut short anywhere, or with another head: the files are hashed again, and nothing stops."""
    stats.save(layout, "rows", hashed(["a", "b"]))
    (file,) = layout.cache.rglob("*.bin")
    whole = file.read_bytes()
    for damaged in [
        *(whole[:size] for size in range(len(whole))),
        whole + b"x",
        b"{}\n",
        b"[]\n",
        whole.replace(b"2", b"3", 1),
    ]:
        file.write_bytes(damaged)
        assert stats.read(layout, "rows") is None
