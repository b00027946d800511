"""Versioning data in a real project on disk."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import polars as pl
import pytest

from mlops_local.domain import events
from mlops_local.domain.errors import DataError, MlopsError, UsageError
from mlops_local.domain.graph import Source
from mlops_local.domain.listing import Hashed
from mlops_local.domain.progress import Progress
from mlops_local.engines.data import files, images, profile
from mlops_local.services import data, init, usage, verifying
from mlops_local.services.project import Project, find
from mlops_local.store import cache, journal, packfiles, packs, projection, stats

SOURCE = Source("people", "data/people-*.csv", key=("id",), outcome=("left",))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    init.create(tmp_path)
    (tmp_path / "data").mkdir()
    _csv(tmp_path, 1, "1,30,0\n2,40,1\n")
    return find(tmp_path)


def _csv(root: Path, number: int, lines: str, *, quiet: bool = False) -> Path:
    file = root / "data" / f"people-{number}.csv"
    file.write_text("id,age,left\n" + lines)
    return file


def _journalled(project: Project) -> list[str]:
    lines = [line for file in project.layout.journal.glob("*.state.jsonl") for line in journal.decode(file.read_bytes())[0]]
    return [line["snapshot"]["id"] for line in sorted(lines, key=lambda line: line["t"]) if line["k"] == events.SNAPSHOT]


def test_a_snapshot_holds_files_rows_and_columns(project: Project) -> None:
    """A first snapshot has every file with hash, size and rows, a profile, and a line for the person who asked."""
    said: list[Progress] = []
    taken = data.snapshot(project, SOURCE, emit=said.append)
    (entry,) = taken.files
    assert (entry.path, entry.rows, taken.rows) == ("data/people-1.csv", 2, 2)
    assert entry.bytes == taken.bytes == (project.root / entry.path).stat().st_size
    assert [column.name for column in taken.columns] == ["id", "age", "left"]
    assert said[-1].kind == "snapshot" and said[-1].text.startswith(f"people {taken.short}, 1 file, 2 rows, ")
    assert b"".join(packs.content(project.layout, entry.hash)) == (project.root / entry.path).read_bytes()


def test_nothing_changed_is_the_same_snapshot_and_no_event(project: Project) -> None:
    """A second call, a touched file and a file rewritten with its own bytes give the same id and journal nothing."""
    first = data.snapshot(project, SOURCE)
    os.utime(project.root / "data/people-1.csv")
    assert data.snapshot(project, SOURCE) == first
    _csv(project.root, 1, "1,30,0\n2,40,1\n")
    assert data.snapshot(project, SOURCE).id == first.id
    assert _journalled(project) == [first.id]


def test_changed_bytes_are_seen_at_once(project: Project) -> None:
    """An edit of the same length right after a snapshot is another snapshot: a young stat is not believed."""
    first = data.snapshot(project, SOURCE)
    stat = (project.root / "data/people-1.csv").stat()
    _csv(project.root, 1, "1,30,0\n2,40,0\n")
    os.utime(project.root / "data/people-1.csv", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    second = data.snapshot(project, SOURCE)
    assert second.id != first.id and _journalled(project) == [first.id, second.id]


def test_a_quiet_file_is_not_read_again(project: Project) -> None:
    """A file whose remembered stat is old enough is trusted: its bytes are not even readable here, and the answer comes."""
    first = data.snapshot(project, SOURCE)
    now = files.listing(project.root, SOURCE.pattern, source="people")
    stats.save(project.layout, "people", Hashed(now, [first.files[0].hash]))
    assert data.current(project, SOURCE).id == first.id
    stats.save(project.layout, "people", Hashed(now, ["1" * 64]))
    assert data.current(project, SOURCE).id == files.identity([("data/people-1.csv", "1" * 64)])


@pytest.mark.parametrize("kept", ["full", "reference"])
def test_rehashing_believes_no_stat(project: Project, kept: str) -> None:
    """Whoever distrusts a disk's times can have every file read; what was wrongly remembered is put right by that."""
    source = replace(SOURCE, store=kept)
    first = data.snapshot(project, source)
    now = files.listing(project.root, SOURCE.pattern, source="people")
    stats.save(project.layout, "people", Hashed(now, ["1" * 64]))
    assert data.snapshot(project, source, rehash=True) == first
    assert data.current(project, source).id == first.id


def test_a_file_more_and_a_file_less_are_said(project: Project) -> None:
    """The line says what changed since the snapshot before; going back is the first id again."""
    first = data.snapshot(project, SOURCE)
    more = _csv(project.root, 2, "3,50,0\n")
    said: list[Progress] = []
    second = data.snapshot(project, SOURCE, emit=said.append)
    assert second.rows == 3 and f"1 file added since {first.short}" in said[-1].text
    more.unlink()
    third = data.snapshot(project, SOURCE, emit=said.append)
    assert third.id == first.id and f"1 file removed since {second.short}" in said[-1].text
    assert _journalled(project) == [first.id, second.id, first.id]
    (project.root / "data/people-1.csv").rename(project.root / "data/people-7.csv")
    _csv(project.root, 8, "3,50,0\n")
    data.snapshot(project, SOURCE, emit=said.append)
    assert f": 1 file added, 1 file moved since {first.short}" in said[-1].text


def test_a_lost_object_comes_back(project: Project) -> None:
    """A stored copy that disappeared is stored again by the next snapshot, although no file changed and it was there before."""
    first = data.snapshot(project, SOURCE)
    now = files.listing(project.root, SOURCE.pattern, source="people")
    for lost in ("*", "*.pack", "*.files"):
        stats.save(project.layout, "people", Hashed(now, [first.files[0].hash]))  # as when it was quiet for two seconds
        assert data.snapshot(project, SOURCE) == first
        for path in project.layout.packs.glob(lost):
            path.unlink()
        assert data.snapshot(project, SOURCE) == first
        assert packs.verify(project.layout, first.files[0].hash)


def test_current_stores_nothing(project: Project) -> None:
    """Asking what the files stand for leaves no object, no event and no newest snapshot."""
    now = data.current(project, SOURCE)
    assert cache.snapshot(project.layout, "people") is None and _journalled(project) == []
    assert not packs.contains(project.layout, now.files[0].hash)
    assert data.snapshot(project, SOURCE).id == now.id


def test_a_damaged_cache_only_costs_time(project: Project) -> None:
    """Whatever stands in the cache's files, the snapshot is right."""
    first = data.snapshot(project, SOURCE)
    for file in project.layout.cache.rglob("*.*"):
        file.write_text("[1, {")
    assert data.snapshot(project, SOURCE).id == first.id


@pytest.mark.parametrize(
    ("source", "message", "hint"),
    [
        (Source("people", "data/persons-*.csv"), "no file matches data/persons-*.csv", "people-1.csv"),
        (Source("people", "data/people-*.csv", key=("ids",)), "key names a column 'ids'", "did you mean 'id'"),
        (Source("people", "data/people-*.csv", time="when"), "time names a column 'when'", "columns: id, age, left"),
        (Source("people", "data/people-*.csv", outcome=("lef",)), "outcome names a column 'lef'", "did you mean 'left'"),
    ],
)
def test_a_declaration_that_does_not_fit_is_said(project: Project, source: Source, message: str, hint: str) -> None:
    """Missing files and columns are refused with what could be meant, also when the files themselves are known already."""
    for _ in range(2):
        with pytest.raises(DataError) as caught:
            data.snapshot(project, source)
        assert message in caught.value.message and hint in caught.value.hint and caught.value.exit_code == 2
        data.snapshot(project, SOURCE)


def test_a_bad_file_leaves_the_old_snapshot(project: Project) -> None:
    """A ragged line stops the snapshot with file and line; nothing is journalled and the newest one stays."""
    first = data.snapshot(project, SOURCE)
    _csv(project.root, 2, "3,50\n")
    with pytest.raises(DataError, match=r"people-2\.csv, line 2"):
        data.snapshot(project, SOURCE)
    assert _journalled(project) == [first.id] and cache.snapshot(project.layout, "people") == first


def test_a_large_source_is_kept_by_reference(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the limit files are hashed but not copied, and that is said with what a copy would cost."""
    monkeypatch.setattr(data, "REFERENCE_BYTES", 10)
    said: list[Progress] = []
    taken = data.snapshot(project, SOURCE, emit=said.append)
    assert not packs.contains(project.layout, taken.files[0].hash)
    assert any("kept by reference" in item.text for item in said)
    assert [check.state for check in verifying.verify(project, [SOURCE])] == ["ok"]


def test_bytes_that_are_asked_for_later_are_kept(project: Project) -> None:
    """The same snapshot, first by reference, then in full: that is said, and from then on its bytes are known to be stored."""
    said: list[Progress] = []
    taken = data.snapshot(project, replace(SOURCE, store="reference"))
    assert [use.kept for use in usage.usage(project).versions] == ["reference"]
    assert data.snapshot(project, SOURCE, emit=said.append).id == taken.id
    assert said[-1].text.endswith(": its bytes are kept now")
    data.snapshot(project, replace(SOURCE, store="reference"), emit=said.append)
    assert said[-1].text.endswith(": by reference from now on")
    assert [use.kept for use in usage.usage(project).versions] == ["full"]
    projection.rebuild(project.store)
    assert [use.kept for use in usage.usage(project).versions] == ["full"]


@pytest.mark.parametrize("kept", ["full", "reference"])
def test_of_a_file_that_grew_the_new_rows_alone_are_profiled(
    project: Project, monkeypatch: pytest.MonkeyPatch, kept: str
) -> None:
    """Rows added to a CSV are added to what was known of it, its bytes kept or not; where other rows changed, all is read."""
    source = replace(SOURCE, store=kept)
    lines = "".join(f"{row},{row % 90},{row % 2}\n" for row in range(20_000))
    data.snapshot(project, source)
    file = _csv(project.root, 1, lines)
    data.snapshot(project, source)
    with monkeypatch.context() as patch:
        patch.delattr(profile, "_sketch")
        with file.open("a") as opened:
            opened.write("20000,200,1\n")
        grown = data.snapshot(project, source)
    assert grown.rows == 20_001 and grown.columns[1].max == "200" and grown.columns[0].max == "20000"
    _csv(project.root, 1, "7" + lines + "20000,300,1\n")
    changed = data.snapshot(project, source)
    assert changed.columns[0].min == "1" and changed.columns[1].max == "300"


def test_a_private_value_that_does_not_fit_is_not_shown(project: Project) -> None:
    """The file, the line and the column are said, and of a private column not the value."""
    _csv(project.root, 2, "3,Ann,0\n")
    typed = replace(SOURCE, schema={"age": "Int64"})
    with pytest.raises(DataError, match=r"data/people-2\.csv, line 2: 'Ann' in column age, which is read as Int64$"):
        data.snapshot(project, typed)
    with pytest.raises(DataError, match=r"data/people-2\.csv, line 2: a value in column age, which") as caught:
        data.snapshot(project, replace(typed, private=("age",)))
    assert "Ann" not in caught.value.message + caught.value.hint and caught.value.__cause__ is None


def test_what_may_not_be_read_or_written_is_said(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that takes nothing is one error that names the file; a folder nobody may look into holds unreadable files."""
    data.snapshot(project, SOURCE)
    (pack,) = (project.layout.objects / "packs").glob("*.pack")
    refused = PermissionError(errno.EACCES, "Permission denied")
    opened = os.open

    def no_pack(path: str | Path, *arguments: int) -> int:
        if Path(path) == pack:
            raise refused
        return opened(path, *arguments)

    _csv(project.root, 2, "3,50,0\n")
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", no_pack)
        with pytest.raises(MlopsError, match=rf"cannot write {pack}: Permission denied"):
            data.snapshot(project, SOURCE)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "is_file", Mock(side_effect=refused))
        assert [check.state for check in verifying.verify(project, [SOURCE])] == ["unreadable", "new"]


def test_verify_tells_every_difference(project: Project) -> None:
    """Changed, missing and new working files, damaged and lost stored copies are each said; a store's damage is exit 6."""
    for number in (2, 3, 4):
        _csv(project.root, number, f"{number},50,0\n")
    taken = data.snapshot(project, SOURCE)
    assert verifying.exit_code(verifying.verify(project, [SOURCE])) == 0
    never = Source("never", "data/never.csv")
    assert len(verifying.verify(project, [SOURCE, never], asked=False)) == 4
    with pytest.raises(DataError, match="source never has no snapshot yet"):
        verifying.verify(project, [SOURCE, never])
    hashes = {entry.path: entry.hash for entry in taken.files}
    _csv(project.root, 1, "9,9,9\n")
    (project.root / "data/people-2.csv").unlink()
    _csv(project.root, 5, "5,50,0\n")
    assert verifying.exit_code(verifying.verify(project, [SOURCE])) == 1
    kept = packs.index(project.layout).get(hashes["data/people-3.csv"])
    assert kept is not None
    with packfiles.data(project.layout, kept.stretches[0].pack).open("r+b") as pack:
        pack.seek(kept.stretches[0].end - 2)
        pack.write(b"1")
    listing = packfiles.listing(project.layout, kept.stretches[0].pack)
    listing.write_text(listing.read_text().replace(hashes["data/people-4.csv"], "1" * 64))
    checks = verifying.verify(project, [SOURCE])
    assert {check.path[-5:-4]: check.state for check in checks} == {
        "1": "changed",
        "2": "missing",
        "3": "altered",
        "4": "not stored",
        "5": "new",
    }
    assert verifying.exit_code(checks) == 6 and "1 altered" in verifying.verdict(checks)


def test_of_a_private_column_no_value_is_shown(project: Project) -> None:
    """Its type and counts are, by whichever name the snapshot is found; other columns are shown in full."""
    source = replace(SOURCE, private=("age",))
    taken = data.snapshot(project, source)
    for name in ("people", "people@latest"):
        shown = {column.name: column for column in data.show(project, [source], name).columns}
        kept = {column.name: column for column in taken.columns}
        assert shown.pop("age") == replace(kept["age"], min="", max="", mean=None, std=None, quantiles=(), bins=(), top=(),
            bins_from=None, bins_to=None, lengths=())  # fmt: skip
        del kept["age"]
        assert shown == kept


def test_show_finds_by_name_and_by_id(project: Project) -> None:
    """A snapshot is found by its source or the beginning of its id; a wrong name gets a suggestion."""
    with pytest.raises(DataError, match="no snapshot yet"):
        data.show(project, [SOURCE], "people")
    taken = data.snapshot(project, SOURCE)
    assert data.show(project, [SOURCE], "people") == data.show(project, [SOURCE], taken.short) == taken
    _csv(project.root, 1, "1,20,0\n")
    assert data.snapshot(project, SOURCE) == data.show(project, [SOURCE], "people@latest") != taken
    assert data.show(project, [SOURCE], "people@~1").id == data.show(project, [SOURCE], taken.short).id == taken.id
    for wrong, hint in {
        "peple": "did you mean 'people'?",
        "xyz": "sources: people",
        "people@~7": "see `mlops data log",
    }.items():
        with pytest.raises(UsageError) as caught:
            data.show(project, [SOURCE], wrong)
        assert hint in caught.value.hint
    with pytest.raises(UsageError):
        data.select([SOURCE], ["peple"])


def test_data_outside_the_project_are_named_by_a_link(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A link in the project stands for a folder elsewhere: only the link's own path is recorded, wherever it leads."""
    found = []
    for _ in range(2):
        outside = tmp_path_factory.mktemp("warehouse")
        (outside / "rows.csv").write_text("id\n1\n")
        link = project.root / "warehouse"
        link.unlink(missing_ok=True)
        link.symlink_to(outside)
        found.append(data.snapshot(project, Source("rows", "warehouse/*.csv")))
        assert str(outside) not in "".join(path.read_text() for path in project.layout.journal.glob("*.state.jsonl"))
    assert found[0] == found[1] and found[0].files[0].path == "warehouse/rows.csv"


def test_overview_lists_sources_before_and_after(project: Project) -> None:
    """A source without a snapshot is listed too."""
    (line,) = data.overview(project, [SOURCE])
    assert line.snapshot == "" and line.files is None
    taken = data.snapshot(project, SOURCE)
    (line,) = data.overview(project, [SOURCE])
    assert (line.snapshot, line.files, line.rows, line.outcome) == (taken.id, 1, 2, ("left",))


def test_parquet_of_the_sample_is_profiled(tmp_path: Path) -> None:
    """The sample's own flights: rows by file from the footers, null counts of what is known only afterwards."""
    init.create(tmp_path / "flights", template="flights")
    project = find(tmp_path / "flights")
    taken = data.snapshot(project, Source("flights", "data/flights-2013-09.parquet", outcome=("arr_delay",)))
    frame = pl.read_parquet(tmp_path / "flights/data/flights-2013-09.parquet")
    columns = {column.name: column for column in taken.columns}
    assert taken.rows == frame.height == 27_574
    assert columns["arr_delay"].nulls == frame["arr_delay"].null_count() > 0
    assert columns["time_hour"].min.startswith("2013-09-01")


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.png"])
def test_a_file_that_goes_while_its_source_is_read_is_said(project: Project, name: str) -> None:
    """Its bytes were read, then it went before anybody looked into it: an error that names it, no fault of the program."""
    file = project.root / "gone" / name
    file.parent.mkdir()
    file.write_text('{"a":1}\n')
    source = Source("gone", "gone/*", kind="files" if name == "a.png" else "table")
    with pytest.raises(DataError, match=rf"source gone: a file cannot be read: .*{name}"):
        data.snapshot(project, source, reading=file.unlink)


def test_a_table_whose_name_is_not_utf8_is_refused(project: Project) -> None:
    """Nothing could read it as a table; as a file it is kept."""
    (project.root / "odd").mkdir()
    (project.root / os.fsdecode(b"odd/\xff.csv")).write_text("a\n1\n")
    with pytest.raises(DataError, match="is not UTF-8, so it cannot be read as a table"):
        data.snapshot(project, Source("odd", "odd/*"))
    assert len(data.snapshot(project, Source("odd", "odd/*", kind="files")).files) == 1


def test_a_picture_that_changes_while_it_is_looked_into_is_an_error(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its size would be kept under the hash of what it was before."""
    photo = project.root / "photo.png"
    photo.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 8 + (64).to_bytes(4, "big") + (48).to_bytes(4, "big"))
    looked = images.dimensions

    def changed(file: Path) -> tuple[int, int] | None:
        file.write_bytes(b"another")
        return looked(file)

    monkeypatch.setattr(images, "dimensions", changed)
    photos = Source("photos", "*.png", kind="files")
    with pytest.raises(DataError, match=r"source photos: photo\.png changed while it was read"):
        data.snapshot(project, photos)
    monkeypatch.undo()
    assert [column.name for column in data.snapshot(project, photos).columns] == ["bytes", "type", "width", "height"]


def test_a_column_that_turned_into_another_type_is_said(project: Project) -> None:
    """A word among numbers makes a column of words in every file: said, with its line; not where types were declared."""
    said: list[str] = []

    def warned(source: Source, lines: str) -> str:
        said.clear()
        _csv(project.root, 2, lines)
        data.snapshot(project, source, emit=lambda event: said.append(event.text) if event.kind == "warning" else None)
        return "".join(said)

    assert warned(SOURCE, "3,50,0\n") == ""
    turned = warned(SOURCE, "3,old,0\n")
    word = "data/people-2.csv, line 2: 'old' in column age, where 2 of 3 values are numbers"
    assert f"age is String and was Int64; {word}; schema={{…}}" in turned
    assert warned(SOURCE, "3,50,0\n").endswith(
        "age is Int64 and was String, with data/people-2.csv; schema={…} in its declaration says what a column is"
    )
    assert "line 2: a value in column age," in warned(replace(SOURCE, private=("age",)), "3,old,0\n")
    assert warned(replace(SOURCE, schema={"age": "Float64"}), "3,51,0\n") == ""
