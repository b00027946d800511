"""mlops.lock."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_local.domain.errors import ConfigError
from mlops_local.store import lockfile
from mlops_local.store.layout import Layout
from mlops_local.store.lockfile import LockFile, ModelEntry, SourceEntry

EXAMPLE = LockFile(
    {"weather": SourceEntry("s2", 2, 20), "flights": SourceEntry("s1", 1, 10)},
    {"delay": ModelEntry("delay@3", "f", "e", "auc", 0.7172, "b", 0.7023, 0.7311)},
)


def test_the_text_is_one_sorted_line_an_entry() -> None:
    """What a reviewer sees."""
    assert lockfile.render(EXAMPLE).splitlines()[1:] == [
        "model delay champion=delay@3 fingerprint=f evaluation=e metric=auc value=0.7172 low=0.7023 high=0.7311 bundle=b",
        "source flights snapshot=s1 rows=1 bytes=10",
        "source weather snapshot=s2 rows=2 bytes=20",
    ]


def test_writing_and_reading_give_the_same(layout: Layout) -> None:
    """A missing file is empty; writing the same again does not touch the file."""
    assert lockfile.read(layout.lockfile) == LockFile()
    assert lockfile.write(layout, EXAMPLE) is True
    before = layout.lockfile.stat()
    assert lockfile.write(layout, EXAMPLE) is False
    assert layout.lockfile.stat().st_mtime_ns == before.st_mtime_ns
    assert lockfile.read(layout.lockfile) == EXAMPLE


def test_an_unfinished_merge_is_named_with_its_line() -> None:
    """Conflict markers are the commonest damage of a committed file."""
    text = lockfile.render(EXAMPLE) + "<<<<<<< HEAD\n"
    with pytest.raises(ConfigError, match=r"mlops\.lock, line 5: an unfinished merge"):
        lockfile.parse(text)


@pytest.mark.parametrize("line", ["source flights", "model delay champion=x", "source a snapshot=s rows=many bytes=1"])
def test_a_line_that_cannot_be_read_is_named(line: str) -> None:
    """Not a stack trace: the line, and what to do."""
    with pytest.raises(ConfigError, match="line 1 cannot be read") as caught:
        lockfile.parse(line)
    assert "mlops train" in caught.value.hint


def test_what_a_newer_version_adds_is_ignored() -> None:
    """A teammate's newer program may write more words and kinds of line."""
    text = "source a snapshot=s rows=1 bytes=2 colour=red\nfuture thing x=1\n"
    assert lockfile.parse(text).sources == {"a": SourceEntry("s", 1, 2)}


names = st.text(min_size=1, max_size=20)


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(names, st.builds(SourceEntry, names, st.integers(0), st.integers(0)), max_size=3),
    st.dictionaries(
        names, st.builds(ModelEntry, names, names, names, names, st.just(0.5), names, st.none(), st.just(0.75)), max_size=3
    ),
)
def test_any_names_come_back(sources: dict[str, SourceEntry], models: dict[str, ModelEntry]) -> None:
    """Names with blanks, equals signs, newlines or letters of any script survive, still on one line each."""
    text = lockfile.render(LockFile(sources, models))
    assert lockfile.parse(text) == LockFile(sources, models)
    assert len(text.split("\n")) == len(sources) + len(models) + 2
