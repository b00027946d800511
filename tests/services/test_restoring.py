"""Snapshots' files come back, nothing is lost on the way, and what they take is counted."""

from __future__ import annotations

import json
import os
import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops_local.cli.main import cli
from mlops_local.domain.assets import FileEntry, Snapshot
from mlops_local.domain.errors import DataError, IntegrityError, UsageError
from mlops_local.domain.graph import Source
from mlops_local.services import data, init, restoring, verifying
from mlops_local.services.project import Project, find
from mlops_local.services.usage import usage
from mlops_local.store import lockfile, packfiles, packs

SOURCE = Source("files", "data/**/*", kind="files")
TABLE = Source("rows", "data/*.csv", key=("id",))
_NOISE = random.Random(2).randbytes(400_000)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    init.create(tmp_path)
    (tmp_path / "data").mkdir()
    return find(tmp_path)


def _write(project: Project, **files: bytes) -> None:
    for name, content in files.items():
        (project.root / "data" / f"{name}.csv").write_bytes(content)


def _tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


_NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda name: not name.startswith(".")
)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tree=st.dictionaries(
        st.tuples(st.sampled_from(["", "a", "a/b", "\n", "ü"]), _NAMES),
        st.one_of(st.binary(max_size=30), st.builds(lambda at: _NOISE[at:], st.integers(0, 400_000))),
        min_size=1,
        max_size=5,
    )
)
def test_restoring_a_snapshot_is_the_identity(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[tuple[str, str], bytes]
) -> None:
    """Whatever names and contents the files have, newlines included, a snapshot gives the same tree back elsewhere."""
    root = tmp_path_factory.mktemp("tree")
    init.create(root)
    for (folder, name), content in tree.items():
        (root / "data" / folder / "x").mkdir(parents=True, exist_ok=True)
        (root / "data" / folder / "x" / name).write_bytes(content)
    project = find(root)
    data.snapshot(project, SOURCE)
    (found,) = restoring.named(project, ["files"], locked=False)
    restoring.restore(project, found, SOURCE, to=root / "out")
    assert _tree(root / "out" / "data") == _tree(root / "data")
    project.store.close()


def test_a_name_that_is_not_utf8_comes_back(project: Project) -> None:
    """Tables show such a name by a sign; the file gets its own back, also when a later snapshot is the newest."""
    odd = os.fsdecode(b"data/caf\xe9.bin")
    (project.root / odd).write_bytes(b"coffee")
    first = data.snapshot(project, SOURCE)
    (project.root / odd).unlink()
    _write(project, tea=b"tea")
    data.snapshot(project, SOURCE)
    (found,) = restoring.named(project, [f"files@{first.short}"], locked=False)
    done = restoring.restore(project, found, SOURCE)
    assert done.written == (odd,) and (project.root / odd).read_bytes() == b"coffee" and done.beside == ("data/tea.csv",)


def test_a_changed_file_is_not_written_over(project: Project) -> None:
    """Without force nothing is written at all; with it, what was there is a snapshot that can be restored in turn."""
    _write(project, a=b"id\n1\n", b=b"id\n2\n")
    first = data.snapshot(project, TABLE)
    _write(project, a=b"id\n9\n")
    (project.root / "data/b.csv").unlink()
    (found,) = restoring.named(project, ["rows"], locked=False)
    with pytest.raises(UsageError, match=r"data/a\.csv would be written over") as caught:
        restoring.restore(project, found, TABLE)
    assert "--force" in caught.value.hint and not (project.root / "data/b.csv").exists()
    done = restoring.restore(project, found, TABLE, force=True)
    assert done.written == ("data/a.csv", "data/b.csv") and data.snapshot(project, TABLE) == first
    (mine,) = restoring.named(project, [f"rows@{done.kept[:8]}"], locked=False)
    restoring.restore(project, mine, TABLE, to=project.root / "mine")
    assert (project.root / "mine/data/a.csv").read_bytes() == b"id\n9\n"


def test_what_is_no_file_is_never_written_over(project: Project) -> None:
    """A folder, a link to nothing: said as what they are, also with force, and nothing is written."""
    _write(project, a=b"id\n1\n", b=b"id\n2\n")
    first = data.snapshot(project, TABLE)
    for path in (project.root / "data").iterdir():
        path.unlink()
    place = project.root / "data" / "b.csv"
    place.mkdir()
    for force in (False, True):
        with pytest.raises(UsageError, match=r"in the place of data/b\.csv: a folder") as raised:
            restoring.restore(project, first, TABLE, force=force)
        assert raised.value.hint == "move it away, or --to DIR writes elsewhere"
    place.rmdir()
    place.symlink_to("nowhere")
    with pytest.raises(UsageError, match="a link to nothing"):
        restoring.restore(project, first, TABLE, force=True)
    assert not (project.root / "data" / "a.csv").exists()


def test_what_cannot_be_read_as_a_table_is_kept_all_the_same(project: Project) -> None:
    """A damaged working file is kept byte by byte before it is written over, and the source's newest is what was restored."""
    _write(project, a=b"id\n1\n")
    first = data.snapshot(project, TABLE)
    _write(project, a=b"id\n1,2,3\n")
    (found,) = restoring.named(project, ["rows"], locked=False)
    done = restoring.restore(project, found, TABLE, force=True)
    (mine,) = restoring.named(project, [f"rows@{done.kept[:8]}"], locked=False)
    assert b"".join(packs.content(project.layout, mine.files[0].hash)) == b"id\n1,2,3\n"
    (newest,) = restoring.named(project, ["rows"], locked=False)
    assert newest.id == first.id and data.snapshot(project, TABLE) == first


def test_what_mlops_lock_names_is_restored(project: Project) -> None:
    """The snapshot a commit stands for comes back whatever the newest is; a source it does not name is said."""
    _write(project, a=b"id\n1\n")
    first = data.snapshot(project, TABLE)
    _write(project, a=b"id\n2\n")
    data.snapshot(project, TABLE)
    locked = lockfile.LockFile(sources={"rows": lockfile.SourceEntry(first.id, 1, 5)})
    lockfile.write(project.layout, locked)
    (found,) = restoring.named(project, [], locked=True)
    assert found.id == first.id
    with pytest.raises(UsageError, match="does not name flights"):
        restoring.named(project, ["flights"], locked=True)


def test_files_that_came_back_another_way_are_the_newest_snapshot(project: Project) -> None:
    """After `git switch` brought the files, restoring writes nothing, and from then on they are what the source has."""
    _write(project, a=b"id\n1\n")
    first = data.snapshot(project, SOURCE)
    _write(project, a=b"id\n2\n")
    data.snapshot(project, SOURCE)
    _write(project, a=b"id\n1\n")
    assert restoring.restore(project, first, SOURCE).written == ()
    assert data.overview(project, [SOURCE])[0].snapshot == first.id
    assert verifying.exit_code(verifying.verify(project, [SOURCE])) == 0


def test_what_the_newest_snapshot_keeps_may_be_written_over(project: Project) -> None:
    """There and back without force while nothing would be lost; not where the newest keeps no bytes, nor somewhere else."""
    _write(project, a=b"id\n1\n", b=b"id\n3\n")
    first = data.snapshot(project, TABLE)
    _write(project, a=b"id\n2\n", b=b"id\n4\n")
    second = data.snapshot(project, TABLE)
    for there, back in ((first, second), (second, first)):
        done = restoring.restore(project, there, TABLE)
        assert len(done.written) == 2 and done.kept == back.id
    _write(project, a=b"id\n9\n")
    with pytest.raises(UsageError, match=r"^data/a\.csv would be written over") as caught:
        restoring.restore(project, first, TABLE)
    data.snapshot(project, replace(TABLE, store="reference"))
    with pytest.raises(UsageError, match=r"^data/a\.csv would be written over"):
        restoring.restore(project, first, TABLE)
    with pytest.raises(UsageError, match="would be written over") as caught:
        restoring.restore(project, first, TABLE, to=project.root)
    assert caught.value.hint == "name an empty folder"


def test_a_source_by_reference_says_that_its_bytes_are_not_there(project: Project) -> None:
    """What was never stored is not a damage: the message says why, and `full` stores the same bytes from then on."""
    _write(project, a=b"id\n1\n")
    kept = data.snapshot(project, replace(TABLE, store="reference"))
    assert kept.kept == "reference" and list(packs.every(project.layout)) == []
    (found,) = restoring.named(project, ["rows"], locked=False)
    assert restoring.restore(project, found, TABLE).same == 1
    (project.root / "data/a.csv").unlink()
    with pytest.raises(DataError, match=r"kept by reference: the bytes of data/a\.csv are not stored"):
        restoring.restore(project, found, TABLE)
    _write(project, a=b"id\n1\n")
    full = data.snapshot(project, replace(TABLE, store="full"))
    assert (full.id, full.kept) == (kept.id, "full") and packs.verify(project.layout, full.files[0].hash)


def test_damage_names_the_snapshots_that_need_it(project: Project) -> None:
    """A missing and an altered content both say which snapshots cannot be restored without it."""
    _write(project, a=b"id\n1\n")
    first = data.snapshot(project, TABLE)
    (name,) = packfiles.names(project.layout)
    pack = packfiles.data(project.layout, name)
    raw = pack.read_bytes()
    (project.root / "data/a.csv").unlink()
    (found,) = restoring.named(project, ["rows"], locked=False)
    pack.write_bytes(raw.replace(b"id\n1\n", b"id\n7\n"))
    assert f"not what was written, needed by rows {first.short}" in _why(restoring.restore(project, found, TABLE))
    pack.unlink()
    assert f"is missing, needed by rows {first.short}" in _why(restoring.restore(project, found, TABLE))
    assert not (project.root / "data/a.csv").exists()


def _why(done: restoring.Restored) -> str:
    assert not done.written
    (failed,) = done.failed
    return failed.why


def test_damage_of_one_file_stops_none_of_the_others(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that can be given back is; one error (6) names each file that cannot and who needs it, and its place is as it was."""
    monkeypatch.chdir(project.root)
    _write(project, **{name: f"id\n{name}\n".encode() for name in "abcd"})
    (project.root / "data" / "deep").mkdir()
    (project.root / "data" / "deep" / "e.csv").write_bytes(b"id\ne\n")
    first = data.snapshot(project, replace(TABLE, pattern="data/**/*.csv"))
    other = data.snapshot(project, replace(TABLE, name="other", pattern="data/d.csv"))
    (name,) = packfiles.names(project.layout)
    pack, lines = packfiles.data(project.layout, name), packfiles.listing(project.layout, name)
    pack.write_bytes(pack.read_bytes().replace(b"id\nb\n", b"id\nB\n").replace(b"id\ne\n", b"id\nE\n"))  # flipped bits
    gone = {entry.path: entry.hash for entry in first.files}["data/c.csv"]
    lines.write_text(lines.read_text().replace(f"{gone} 5 {name}:", f"{gone} 5 {name}:?"))
    shutil.rmtree(project.root / "data")
    (project.root / "data").mkdir()
    entries = {item.source: lockfile.SourceEntry(item.id, item.rows, item.bytes) for item in (first, other)}
    lockfile.write(project.layout, lockfile.LockFile(sources=entries))
    _write(project, b=b"id\nmine\n")
    result = CliRunner().invoke(cli, ["data", "restore", "--lock", "--force", "--json"], catch_exceptions=True)
    error = result.exception
    assert isinstance(error, IntegrityError) and error.exit_code == 6
    said = "\n".join(error.problems)
    for path, why in (("b", "not what was written"), ("c", "is missing"), ("deep/e", "not what was written")):
        (line,) = [line for line in error.problems if f"data/{path}.csv" in line]
        assert why in line and f"needed by rows {first.short}" in line
    assert "data/a.csv" not in said and "data/d.csv" not in said
    assert _tree(project.root / "data") == {"a.csv": b"id\na\n", "b.csv": b"id\nmine\n", "d.csv": b"id\nd\n"}
    assert not (project.root / "data" / "deep").exists()
    whole, rows = json.loads(result.stdout)["items"]
    assert [item["path"] for item in rows["failed"]] == ["data/c.csv", "data/b.csv", "data/deep/e.csv"]
    assert whole["written"] == ["data/d.csv"] and not whole["failed"] and (rows["written"], rows["same"]) == (["data/a.csv"], 1)


def test_a_source_that_is_refused_stops_none_of_the_others(project: Project) -> None:
    """Of several snapshots those are restored that can be; the error says which was refused and why."""
    _write(project, a=b"id\n1\n")
    (project.root / "other.csv").write_bytes(b"id\n2\n")
    other = Source("other", "other.csv")
    snapshots = [data.snapshot(project, TABLE), data.snapshot(project, other)]
    _write(project, a=b"id\n9\n")
    (project.root / "other.csv").unlink()
    done = restoring.restore_all(project, snapshots, {"rows": TABLE, "other": other})
    error = restoring.failure(done)
    assert isinstance(error, UsageError) and error.message.startswith("data/a.csv would be written over")
    assert (project.root / "other.csv").read_bytes() == b"id\n2\n"


def test_a_path_that_leads_out_is_refused(project: Project) -> None:
    """A store that came from elsewhere cannot write beside the folder it is restored to."""
    for path in ("../evil.csv", "/tmp/evil.csv", "data/../../evil.csv"):
        planted = Snapshot("0" * 64, "rows", (FileEntry(path, "0" * 64, 1),), rows=0, bytes=1)
        with pytest.raises(IntegrityError, match="outside its folder"):
            restoring.restore(project, planted, TABLE, to=project.root / "out")


def test_usage_counts_shared_bytes_once(project: Project) -> None:
    """Versions that share nearly everything own little each; a second source with the same file takes nothing more."""
    _write(project, a=_NOISE)
    files = replace(TABLE, kind="files")
    data.snapshot(project, files)
    _write(project, a=_NOISE + b"more" * 30_000)
    data.snapshot(project, files)
    data.snapshot(project, replace(files, name="other"))
    found = usage(project)
    by = {(use.source, use.files): use for use in found.versions}
    packed = sum(packfiles.data(project.layout, name).stat().st_size for name in packfiles.names(project.layout))
    assert found.stored == packed and found.unneeded == 0 and len(found.versions) == 3
    assert all(use.stored > 400_000 and use.unique < 200_000 for use in found.versions) and by["other", 1].unique == 0
    assert set(found.sources) == {"files", "rows"} - {"files"} and sum(found.sources.values()) < packed


def test_the_commands_say_what_they_did(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """`restore` and `du` in the terminal: one line a snapshot, a table with sums; without a name, usage."""
    (project.root / "pipeline.py").write_text("")
    _write(project, a=b"id\n1\n")
    data.snapshot(project, TABLE)
    monkeypatch.chdir(project.root)
    runner = CliRunner()
    said = runner.invoke(cli, ["data", "restore", "rows", "--to", "out"]).stdout
    assert "1 file written under out" in said and (project.root / "out/data/a.csv").read_bytes() == b"id\n1\n"
    _write(project, a=b"id\n1\n", b=b"id\n1\n")
    data.snapshot(project, TABLE)
    listed = runner.invoke(cli, ["data", "du"]).stdout
    assert "together" in listed and listed.splitlines()[1].split()[2] == "2"  # files, though their content is one
    assert runner.invoke(cli, ["data", "restore"]).exit_code == 2


@pytest.mark.parametrize("links", [True, False])
def test_what_comes_there_meanwhile_is_not_written_over(project: Project, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    """A file changed after it was kept, or new where none was, stays as it is and is named, also without links."""
    if not links:
        monkeypatch.setattr(os, "link", lambda *_, **__: (_ for _ in ()).throw(PermissionError(1, "not permitted")))
    place = project.root / "data"
    _write(project, a=b"id\n1\n", b=b"id\n2\n")
    first = data.snapshot(project, TABLE)

    def restored(meanwhile: bytes | None, *, where: str) -> str:
        _write(project, a=b"id\n8\n")
        (place / "b.csv").unlink(missing_ok=True)
        late = place / f"{where}.csv"

        def change(event: object) -> None:  # what is written over is kept by now
            late.unlink(missing_ok=True) if meanwhile is None else late.write_bytes(meanwhile)

        return " ".join(item.why for item in restoring.restore(project, first, TABLE, force=True, emit=change).failed)

    for where in ("a", "b"):
        assert f"{where}.csv changed while it was restored" in restored(b"id\n9\n", where=where)
        assert (place / f"{where}.csv").read_bytes() == b"id\n9\n"
    assert not restored(None, where="a")
    assert data.snapshot(project, TABLE) == first and {file.name for file in place.iterdir()} == {"a.csv", "b.csv"}
