"""Contents in packs: what goes in comes out, once, and damage is named."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from contextlib import closing
from pathlib import Path

import blake3
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops_local.domain import events
from mlops_local.domain.errors import DataError, IntegrityError, MlopsError
from mlops_local.engines.data import chunks
from mlops_local.store import collect, framing, objects, packfiles, packing, packs, sweeping
from mlops_local.store.compression import zstd
from mlops_local.store.journal import Journal
from mlops_local.store.layout import Layout, create

_NOISE = random.Random(5).randbytes(900_000)
_TEXT = "".join(f"{n},{n * 7919 % 1000},open\n" for n in range(60_000)).encode()
_LONG = _TEXT[:500_000] + _NOISE


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    (tmp_path / "project").mkdir()
    made = Layout(tmp_path / "project")
    create(made)
    return made


def _file(layout: Layout, name: str, data: bytes) -> Path:
    path = layout.root / name
    path.write_bytes(data)
    return path


def _keep(layout: Layout, *contents: bytes) -> list[str]:
    """Keep contents as one snapshot would; return their hashes."""
    with packing.writer(layout, chunks.cut) as writer:
        found = [writer.add(_file(layout, f"in-{index}.csv", data)).hash for index, data in enumerate(contents)]
        writer.commit()
    return found


def _bytes(layout: Layout) -> int:
    return sum(packfiles.data(layout, name).stat().st_size for name in packfiles.names(layout))


def _content(layout: Layout, hash: str) -> bytes:
    return b"".join(packs.content(layout, hash))


def test_an_empty_file_says_nothing_of_its_kind(layout: Layout) -> None:
    """That it does not get smaller is no reason to store the next ones of that suffix uncompressed."""
    _keep(layout, b"", b"a", _TEXT[:100_000])
    assert _bytes(layout) < 60_000


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tree=st.lists(
        st.one_of(
            st.binary(max_size=50),
            st.builds(lambda at, size: (_NOISE + _TEXT)[at : at + size], st.integers(0, 1_000_000), st.integers(0, 700_000)),
        ),
        max_size=6,
    )
)
def test_what_goes_in_comes_out(layout: Layout, tree: list[bytes]) -> None:
    """Whatever the files hold, and whatever of it was there before, each comes back byte by byte."""
    for hash, data in zip(_keep(layout, *tree), tree, strict=True):
        assert packs.contains(layout, hash) and _content(layout, hash) == data
        packs.restore(layout, hash, layout.root / "out")
        assert (layout.root / "out").read_bytes() == data


def test_equal_stretches_are_kept_once(layout: Layout) -> None:
    """A second version with one row more in the middle costs a few chunks; the same file again costs nothing."""
    _keep(layout, _TEXT * 3)
    first = _bytes(layout)
    middle = len(_TEXT) + 7
    _keep(layout, (_TEXT * 3)[:middle] + b"late,1,2\n" + (_TEXT * 3)[middle:])
    assert first < _bytes(layout) < first * 1.6
    before = _bytes(layout)
    _keep(layout, _TEXT * 3)
    assert _bytes(layout) == before


def test_text_gets_smaller_and_noise_does_not_grow(layout: Layout) -> None:
    """Rows of text take less than 0.6 of their size; what is compressed already takes 1.001 of it at most."""
    _keep(layout, _TEXT)
    text = _bytes(layout)
    _keep(layout, _NOISE)
    assert text < 0.6 * len(_TEXT) and _bytes(layout) - text < 1.001 * len(_NOISE)


def test_a_file_comes_back_in_a_shell(layout: Layout) -> None:
    """The lines in .mlops/README restore a file from several stretches, an empty one and a compressed one with zstd alone."""
    if shutil.which("zstd") is None:
        pytest.skip("no zstd program on this machine; test_frames_are_zstd covers the format")
    hashes = _keep(layout, _TEXT, _NOISE, b"") + _keep(layout, _TEXT[:500_000] + b"x" + _TEXT[500_000:])
    readme = (layout.state / "README").read_text()
    script = readme[readme.index("  grep") :]
    for hash, data in zip(hashes, [_TEXT, _NOISE, b"", _TEXT[:500_000] + b"x" + _TEXT[500_000:]], strict=True):
        subprocess.run(["sh", "-ec", f"hash={hash}\n{script}"], cwd=layout.state, check=True, capture_output=True)
        assert (layout.state / "FILE").read_bytes() == data


@given(data=st.binary(min_size=1, max_size=2000))
@settings(max_examples=30, deadline=None)
def test_frames_are_zstd(data: bytes) -> None:
    """A frame of stored blocks and a compressed one both decode with any zstd, and here, to what they were made of."""
    long = memoryview(data * 200)
    frames = [framing.stored(long), framing.packed(long), framing.packed(long, quick=True)]
    assert [zstd.decompress(frame or b"") for frame in frames] == [bytes(long)] * 3
    assert [framing.content(frame or b"") for frame in frames] == [bytes(long)] * 3


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("data", [b"", b"a", _NOISE[:9_000]])
def test_what_gets_no_smaller_is_stored(data: bytes, quick: bool) -> None:
    """There is no compressed frame of it, and the stored one is a few bytes longer than what it holds."""
    assert framing.packed(memoryview(data), quick=quick) is None
    stored = framing.stored(memoryview(data))
    assert len(stored) < len(data) + 30 and zstd.decompress(stored) == data


@pytest.mark.parametrize("quick", [False, True])
def test_text_without_repetitions_gets_smaller(quick: bool) -> None:
    """Digits that never repeat take less than half their bytes: what lies between matches is coded either way."""
    digits = bytes(random.Random(1).choices(b"0123456789", k=30_000))
    frame = framing.packed(memoryview(digits), quick=quick)
    assert frame is not None and len(frame) < 0.5 * len(digits) and framing.content(frame) == digits


def test_the_quick_way_is_taken_where_it_costs_few_bytes(layout: Layout) -> None:
    """Numbers as text are pressed the quick way, what repeats itself is not: either is about as small as it gets."""
    chance = random.Random(2)
    rows = (
        f"{i},{chance.gauss(9, 5):.4f},{chance.gauss(0, 2):.2f},{chance.randrange(30)},{'ab'[i % 2]}" for i in range(50_000)
    )
    numbers = "\n".join(rows).encode()
    lines = "".join(
        f'{{"customer": {chance.randrange(10**6)}, "paid": true, "at": "2026-10-01"}}\n' for _ in range(20_000)
    ).encode()
    sizes, least, quick = {}, {}, {}
    for name, data in (("numbers.csv", numbers), ("lines.jsonl", lines)):
        (layout.root / name).write_bytes(data)
        with packing.writer(layout, chunks.cut) as writer:
            writer.add(layout.root / name)
            sizes[name] = writer.commit()
        ends = chunks.cut(memoryview(data), final=True)
        pieces = [memoryview(data)[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        least[name] = sum(len(framing.packed(piece) or b"") for piece in pieces)
        quick[name] = sum(len(framing.packed(piece, quick=True) or b"") for piece in pieces)
    assert sizes["lines.jsonl"] < 1.02 * least["lines.jsonl"] < 0.9 * quick["lines.jsonl"]
    assert 1.03 * least["numbers.csv"] < sizes["numbers.csv"] < 1.01 * quick["numbers.csv"]


def test_nothing_counts_before_commit(layout: Layout) -> None:
    """An error in the middle of a snapshot leaves no content and not a byte behind."""
    (known,) = _keep(layout, _TEXT)
    before = _bytes(layout)
    with pytest.raises(RuntimeError), packing.writer(layout, chunks.cut) as writer:
        found = writer.add(_file(layout, "more", _NOISE))
        raise RuntimeError
    assert not packs.contains(layout, found.hash) and _bytes(layout) == before and packs.verify(layout, known)


def test_a_long_snapshot_may_commit_in_between(layout: Layout) -> None:
    """What was committed stays when a later part fails, and the same content again gets no second line."""
    with pytest.raises(RuntimeError), packing.writer(layout, chunks.cut) as writer:
        first = writer.add(_file(layout, "a", _TEXT))
        writer.commit()
        assert writer.contains(first.hash)
        writer.add(_file(layout, "b", _TEXT))
        second = writer.add(_file(layout, "c", _NOISE))
        writer.commit()
        third = writer.add(_file(layout, "d", _NOISE[1:]))
        raise RuntimeError
    assert packs.verify(layout, first.hash) and packs.verify(layout, second.hash) and not packs.contains(layout, third.hash)
    assert sum(len(packfiles.lines(layout, name)) for name in packfiles.names(layout)) == 2


def test_what_a_killed_writer_left_is_cut_off(layout: Layout) -> None:
    """Bytes behind the last record, half a record and half a line are nobody's: the next snapshot goes on before them."""
    (known,) = _keep(layout, _TEXT)
    (name,) = packfiles.names(layout)
    for home in (packfiles.data, packfiles.table, packfiles.listing):
        with home(layout, name).open("ab") as file:
            file.write(b"torn tail")
    assert packs.verify(layout, known)
    (more,) = _keep(layout, _NOISE)
    assert packs.verify(layout, more) and packs.verify(layout, known) and packfiles.names(layout) == [name]
    assert b"torn tail" not in packfiles.data(layout, name).read_bytes()


def test_lost_records_lose_no_content(layout: Layout) -> None:
    """A pack whose records are gone is not added to, so that nothing of it is cut off; its files are said to be damaged."""
    (known,) = _keep(layout, _TEXT)
    (name,) = packfiles.names(layout)
    packfiles.table(layout, name).unlink()
    size = packfiles.data(layout, name).stat().st_size
    _keep(layout, _NOISE)
    assert packfiles.data(layout, name).stat().st_size == size and len(packfiles.names(layout)) == 2
    with pytest.raises(IntegrityError, match="lacks records"):
        _content(layout, known)


def test_two_writers_at_once_use_two_packs(layout: Layout) -> None:
    """Nobody waits for another snapshot, and both are whole."""
    with packing.writer(layout, chunks.cut) as one, packing.writer(layout, chunks.cut) as two:
        first = one.add(_file(layout, "a", _TEXT))
        second = two.add(_file(layout, "b", _TEXT + b"x"))
        one.commit()
        two.commit()
    assert packs.verify(layout, first.hash) and packs.verify(layout, second.hash) and len(packfiles.names(layout)) == 2


def test_what_two_writers_kept_twice_is_freed(layout: Layout) -> None:
    """Two snapshots of one new file at once keep it twice; all of it is sound, and gc says what that takes and frees it."""
    with packing.writer(layout, chunks.cut) as one, packing.writer(layout, chunks.cut) as two:
        hash = one.add(_file(layout, "a", _TEXT)).hash
        two.add(_file(layout, "b", _TEXT))
        one.commit()
        two.commit()
    twice = _bytes(layout)
    (first, second) = (packfiles.data(layout, name).read_bytes() for name in packfiles.names(layout))
    assert zstd.decompress(first) == zstd.decompress(second) == _TEXT
    journal = Journal.open(layout.journal)
    journal.state(events.SNAPSHOT, run="", snapshot={"id": "s", "source": "d", "files": [{"path": "a", "hash": hash}]})
    journal.close()
    _age(layout)
    (said,) = collect.survey(layout).items
    assert said.kind == "data" and said.bytes == twice / 2 and "kept twice" in said.why and _bytes(layout) == twice
    collect.sweep(layout)
    assert _bytes(layout) == twice / 2 and _content(layout, hash) == _TEXT and not packs.altered(layout, [hash])
    _age(layout)
    assert collect.survey(layout).items == ()


def test_a_flipped_bit_is_an_error_and_no_file(layout: Layout) -> None:
    """What is altered on the disk is never handed out: reading says so, and the target stays what it was."""
    text, noise = _keep(layout, _TEXT, _NOISE)
    for hash in (text, noise):
        kept = packs.index(layout).get(hash)
        assert kept is not None
        stretch = kept.stretches[0]
        home = packfiles.data(layout, stretch.pack)
        raw = bytearray(home.read_bytes())
        raw[stretch.offset + stretch.length // 2] ^= 1
        home.write_bytes(raw)
        target = _file(layout, "out", b"mine")
        assert not packs.verify(layout, hash)
        with pytest.raises(IntegrityError, match="not what was written"):
            packs.restore(layout, hash, target)
        assert target.read_bytes() == b"mine" and not list(layout.root.glob(".mlops.*"))


def test_of_many_files_exactly_the_damaged_are_named(layout: Layout) -> None:
    """Proving all at once says of each what `verify` says: of small and long files, wrong frames, one that is gone."""
    small = [f"{number}\n".encode() * 200 * number for number in range(30)]
    hashes = _keep(layout, *small, _LONG, _TEXT)
    assert packs.altered(layout, hashes) == set()
    kept = packs.index(layout).get(hashes[7])
    assert kept is not None
    home = packfiles.data(layout, kept.stretches[0].pack)
    raw = bytearray(home.read_bytes())
    raw[kept.stretches[0].offset + kept.stretches[0].length // 2] ^= 1
    home.write_bytes(raw)
    lines = packfiles.listing(layout, kept.stretches[0].pack)
    places = {line[:64]: line for line in lines.read_text().splitlines()}
    wrong = {hashes[11]: places[hashes[12]][64:], hashes[-2]: places[hashes[13]][64:]}  # other files' frames
    lines.write_text("".join(f"{hash}{wrong.get(hash, line[64:])}\n" for hash, line in places.items()))
    lost = "ab" * 32
    altered = packs.altered(layout, [*hashes, lost])
    assert altered == {hashes[7], hashes[11], hashes[-2], lost}
    assert altered == {hash for hash in [*hashes, lost] if not packs.verify(layout, hash)}


def test_a_missing_pack_is_missing_content(layout: Layout) -> None:
    """A file whose pack is gone is not kept, and keeping it again brings it back."""
    (hash,) = _keep(layout, _TEXT)
    (name,) = packfiles.names(layout)
    packfiles.data(layout, name).unlink()
    assert not packs.contains(layout, hash)
    with pytest.raises(IntegrityError, match="is missing"):
        packs.restore(layout, hash, layout.root / "out")
    assert _keep(layout, _TEXT) == [hash] and packs.verify(layout, hash)


def test_a_file_that_does_not_stop_changing_is_refused(layout: Layout) -> None:
    """A file written to while it is read is read again, three times in all, and then is an error; nothing of it is kept."""
    path = _file(layout, "grows.csv", _TEXT)

    def growing(data: memoryview, *, final: bool) -> list[int]:
        with path.open("ab") as file:
            file.write(b"1,2,3\n")
        return chunks.cut(data, final=final)

    with packing.writer(layout, growing) as writer:
        with pytest.raises(DataError, match=r"grows\.csv is being written right now"):
            writer.add(path)
        writer.commit()
    assert list(packs.every(layout)) == []


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=st.integers(150_000, 900_000), more=st.binary(min_size=1, max_size=40), times=st.sampled_from([1, 20, 20_000]))
def test_what_a_file_grew_by_is_all_that_is_cut(layout: Layout, before: int, more: bytes, times: int) -> None:
    """A file that went on has the chunks that cutting all of it gives, comes back, and no more than its end was looked at."""
    sweeping.collect(layout, set(), dry=False, young_s=0)
    old, new = _LONG[:before], _LONG[:before] + more * times
    (hash,) = _keep(layout, old)
    seen = 0

    def watched(data: memoryview, *, final: bool) -> list[int]:
        nonlocal seen
        ends = chunks.cut(data, final=final)
        seen += ends[-1] if ends else 0
        return ends

    with packing.writer(layout, watched) as writer:
        grown = writer.add(_file(layout, "in-0.csv", new), earlier=hash)
        writer.commit()
    assert grown.hash == blake3.blake3(new).hexdigest() and _content(layout, grown.hash) == new
    assert [len(framing.content(frame)) for _, frame in packs.frames(layout, grown.hash)] == _lengths(new)
    if before > packing.WHOLE:
        assert seen <= len(new) - before + chunks.MOST


def test_a_file_that_is_longer_and_not_the_same_is_read_whole(layout: Layout) -> None:
    """Bytes that changed before the end are in the new version, wherever they are; damaged records of the old are no matter."""
    (hash,) = _keep(layout, _LONG[:600_000])
    for place in (0, 300_000, 599_999):
        new = _LONG[:place] + b"#" + _LONG[place + 1 : 700_000]
        with packing.writer(layout, chunks.cut) as writer:
            read = writer.add(_file(layout, "in-0.csv", new), earlier=hash)
            writer.commit()
        assert _content(layout, read.hash) == new
    (name,) = packfiles.names(layout)
    packfiles.table(layout, name).unlink()
    with packing.writer(layout, chunks.cut) as writer:
        read = writer.add(_file(layout, "in-0.csv", _LONG), earlier=hash)
        writer.commit()
    assert _content(layout, read.hash) == _LONG


def _lengths(data: bytes) -> list[int]:
    ends = chunks.cut(memoryview(data), final=True)
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


def test_frames_carry_content_to_another_store(layout: Layout, tmp_path: Path) -> None:
    """Frames of one store are the same content in another; altered ones and those of another file are refused."""
    text, noise = _keep(layout, _TEXT, _NOISE)
    (tmp_path / "other").mkdir()
    other = Layout(tmp_path / "other")
    create(other)
    with packing.writer(other) as writer:
        writer.adopt(text, packs.frames(layout, text))
        writer.commit()
    assert _content(other, text) == _TEXT
    for wrong in (packs.frames(layout, text), ((name, frame[:-1]) for name, frame in packs.frames(layout, noise))):
        with packing.writer(other) as writer, pytest.raises(IntegrityError):
            writer.adopt(noise, wrong)
    assert not packs.contains(other, noise) and packs.verify(other, text)


def test_content_of_an_older_store_is_read(layout: Layout) -> None:
    """A file that was kept as one object before there were packs is there, whole, and comes out."""
    hash = objects.put_bytes(layout, _TEXT)
    assert packs.contains(layout, hash) and packs.verify(layout, hash) and _content(layout, hash) == _TEXT


def _age(layout: Layout) -> None:
    for path in layout.packs.iterdir():
        os.utime(path, (1, 1))


def test_collecting_removes_what_is_not_kept_and_nothing_else(layout: Layout) -> None:
    """What no kept file needs goes, shared chunks stay; a dry run only says so; what is kept is whole afterwards."""
    both, _ = _keep(layout, _TEXT + _NOISE, _TEXT + _NOISE[:500_000])
    (small,) = _keep(layout, b"small")
    _age(layout)
    before = _bytes(layout)
    said = sweeping.collect(layout, {both, small}, dry=True)
    assert said.files == 1 and 0 < said.bytes < 200_000 and _bytes(layout) == before
    done = sweeping.collect(layout, {both, small}, dry=False)
    assert done == said and before - _bytes(layout) == said.bytes
    assert sorted(packs.every(layout)) == sorted([both, small])
    assert _content(layout, both) == _TEXT + _NOISE and _content(layout, small) == b"small"
    assert sweeping.collect(layout, set(), dry=False).files == 0  # what was moved just now is young
    _age(layout)
    sweeping.collect(layout, set(), dry=False)
    assert list(packs.every(layout)) == [] and _bytes(layout) == 0


def test_what_is_young_or_relied_upon_stays(layout: Layout) -> None:
    """A snapshot that is not journalled yet keeps its contents, also those that were there already."""
    (old,) = _keep(layout, _TEXT)
    _age(layout)
    _keep(layout, _TEXT)  # again: nothing is written, but it is relied upon
    assert sweeping.collect(layout, set(), dry=False).files == 0 and packs.verify(layout, old)


def test_collecting_goes_around_damage(layout: Layout) -> None:
    """A kept file whose pack is gone keeps its line and the rest of its chunks, for when the pack comes back."""
    (first,) = _keep(layout, _TEXT)
    with packing.writer(layout, chunks.cut) as writer, closing(packfiles.open_pack(layout)):  # somebody holds the first pack
        found = writer.add(_file(layout, "two", _TEXT + _NOISE))
        writer.commit()
    assert len(packfiles.names(layout)) == 2
    kept = packs.index(layout).get(found.hash)
    assert kept is not None and len({stretch.pack for stretch in kept.stretches}) == 2
    _age(layout)
    home = packfiles.data(layout, kept.stretches[0].pack)
    aside = home.with_suffix(".aside")
    home.rename(aside)
    sweeping.collect(layout, {first, found.hash}, dry=False)
    aside.rename(home)
    assert _content(layout, found.hash) == _TEXT + _NOISE


def test_a_full_disk_leaves_what_was_there(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """When no more bytes fit, one message says so, the snapshot is not there, and what was kept is as it was."""
    import errno

    (known,) = _keep(layout, _TEXT)
    before = _bytes(layout)
    write, left = os.pwrite, [3]

    def short(descriptor: int, data: bytes, offset: int) -> int:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "no space")
        return write(descriptor, data[:100_000], offset)

    monkeypatch.setattr(os, "pwrite", short)
    with pytest.raises(MlopsError, match="no space left to write"):
        _keep(layout, _NOISE)
    monkeypatch.undo()
    assert _bytes(layout) == before and packs.verify(layout, known)
    (again,) = _keep(layout, _NOISE)
    assert _content(layout, again) == _NOISE and _content(layout, known) == _TEXT


def test_a_long_file_is_put_in_place_by_several_threads_or_not_at_all(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """All pieces of a file are where they were, however few bytes the system takes at a time; when the disk is full before the
    last, the target stays what it was."""
    import errno

    long = _LONG * 5
    (hash,) = _keep(layout, long)
    target = _file(layout, "out", b"mine")
    write = os.pwrite

    def full(descriptor: int, data: memoryview, offset: int) -> int:
        if offset + len(data) == len(long):
            raise OSError(errno.ENOSPC, "no space left on device")
        return write(descriptor, data[:70_000], offset)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(DataError, match="no space left"):
        packs.restore(layout, hash, target)
    assert target.read_bytes() == b"mine" and not list(layout.root.glob(".mlops.*"))
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, offset: write(descriptor, data[:70_000], offset))
    packs.restore(layout, hash, target)
    assert target.read_bytes() == long
