"""Where files are cut."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_local.engines.data import chunks

_RANDOM = random.Random(7).randbytes(3 << 20)
_ROWS = "".join(f"{n},{n * 7919 % 1000},{n * 31 % 7},open\n" for n in range(120_000)).encode()
_WIDE = "".join(f"{n},{','.join(str(n * prime % 1009) for prime in range(7919, 7959))},open\n" for n in range(18_000)).encode()
_FLAGS = ",".join(f"{random.Random(3).getrandbits(1_000_000):b}").encode()


def _pieces(data: bytes) -> list[bytes]:
    ends = chunks.cut(memoryview(data), final=True)
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def test_pieces_are_the_file() -> None:
    """Nothing is lost between cuts, no piece is longer than said, and none but the last is shorter."""
    for data in (
        b"",
        b"a",
        bytes(1_000_000),
        _RANDOM,
        _ROWS,
        _WIDE,
        _FLAGS,
        b"one and the same line of text\n" * 50_000,
        b"abcdefghijk" * 100_000,
    ):
        pieces = _pieces(data)
        assert b"".join(pieces) == data
        assert all(chunks.LEAST <= len(piece) <= chunks.MOST for piece in pieces[:-1]) and len(pieces[-1]) <= chunks.MOST


@settings(max_examples=15, deadline=None)
@given(sizes=st.lists(st.integers(1, 1 << 20), min_size=1, max_size=6), data=st.sampled_from([_RANDOM, _ROWS, _WIDE, _FLAGS]))
def test_cuts_depend_on_the_content_only(sizes: list[int], data: bytes) -> None:
    """However the file is handed over in parts, it is cut at the same places."""
    data = data[: sum(sizes)]
    ends: list[int] = []
    begin = stop = 0
    for index, size in enumerate(sizes):
        stop = min(len(data), stop + size)
        final = index == len(sizes) - 1
        found = chunks.cut(memoryview(data)[begin:stop], final=final)
        ends += [begin + end for end in found]
        begin = ends[-1] if ends else 0
    assert ends == chunks.cut(memoryview(data), final=True)


def test_an_insertion_changes_few_pieces() -> None:
    """After bytes put in anywhere, nearly all pieces are the old ones: in rows of text, random bytes and flags that repeat."""
    chance = random.Random(11)
    for data in (_RANDOM, _ROWS, _WIDE, _FLAGS):
        known = set(_pieces(data))
        place = chance.randrange(len(data) // 3)
        changed = _pieces(data[:place] + b"late row,1,2\n" + data[place:])
        assert sum(piece not in known for piece in changed) <= 3


def test_bytes_added_at_the_end_leave_all_but_the_last_piece() -> None:
    """A file that grew has the pieces it had, but for the one it ended with."""
    assert _pieces(_ROWS + b"1,2,3\n" * 100_000)[: len(_pieces(_ROWS)) - 1] == _pieces(_ROWS)[:-1]


def test_rows_of_text_are_not_cut_in_two() -> None:
    """Pieces of a table as text end with a row, so that one that changes is in one piece."""
    assert len(_pieces(_WIDE)) > 10
    assert all(piece.endswith(b"\n") for piece in _pieces(_WIDE))
