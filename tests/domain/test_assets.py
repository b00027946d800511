"""A snapshot's files as columns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_local.domain.assets import FileEntry, Files, Snapshot

entries = st.lists(
    st.builds(FileEntry, st.text(max_size=3), st.text(max_size=3), st.integers(0, 9), st.none() | st.integers(0, 9)), max_size=5
)


@given(entries, st.integers(-6, 6), st.integers(-6, 6))
def test_files_are_the_sequence_of_their_entries(held: list[FileEntry], first: int, last: int) -> None:
    """Length, order, slices, equality and hash are those of the tuple of entries; of columns nothing is lost."""
    files, plain = Files.of(held), tuple(held)
    assert files == plain and plain == files and list(files) == held and len(files) == len(held)
    assert hash(files) == hash(plain) and Files.of(files) is files
    assert files[first:last] == plain[first:last] and [files[place] for place in range(len(held))] == held
    assert files.contents == {entry.path: entry.hash for entry in held}
    assert (files.rows is None) == all(entry.rows is None for entry in held)
    assert Snapshot("s", "rows", files, 0, 0) == Snapshot("s", "rows", plain, 0, 0)
    assert not held or files != Files.of([*held[1:], FileEntry("other", "hash", 77)])


def test_columns_have_one_length() -> None:
    """A damaged cache does not become a snapshot that lacks a hash."""
    with pytest.raises(ValueError, match="different lengths"):
        Files(["a", "b"], ["1"], [1, 2])
