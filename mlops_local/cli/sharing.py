"""The commands that move a project's store between people and machines, and free what nobody needs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlops_local.cli import diagnostics
from mlops_local.cli.context import Settings, json_option

if TYPE_CHECKING:
    from mlops_local.services.share import Moved

_FOLDER = click.Path(path_type=Path)
_ALL = click.option(
    "--all", "everything", is_flag=True, help="All runs, versions and snapshots, not only what mlops.lock names."
)
_DRY = click.option("-n", "--dry-run", is_flag=True, help="Only say what would move.")
_DATA = click.option("--data", is_flag=True, help="Also put data files where they are missing; none is overwritten.")


@click.command(
    epilog="\b\nExamples:\n  mlops push /mnt/team/flights\n  mlops push /media/usb/flights --all\n  mlops push DIR -n"
)
@click.argument("folder", type=_FOLDER, metavar="DIR")
@_ALL
@_DRY
@json_option
@click.pass_obj
def push(settings: Settings, folder: Path, everything: bool, dry_run: bool) -> None:
    """Add to a folder what mlops.lock names: data, champion, verdict and the runs they came from.

    DIR is a network disk, a USB stick, anything that is synced. What is there is not sent again, a push that was
    interrupted goes on, and any number of people may push at once.
    """
    from mlops_local.services import share

    with settings.progress() as emit:
        moved = share.push(settings.project(), settings.directory / folder, everything=everything, dry_run=dry_run, emit=emit)
    _show(settings, "push", moved, "pushed to")


@click.command(
    epilog="\b\nExamples:\n  mlops pull /mnt/team/flights\n  mlops pull /mnt/team/flights --data\n  mlops pull DIR --all"
)
@click.argument("folder", type=_FOLDER, metavar="DIR")
@_ALL
@_DATA
@_DRY
@json_option
@click.pass_obj
def pull(settings: Settings, folder: Path, everything: bool, data: bool, dry_run: bool) -> None:
    """Take from a folder what mlops.lock names; a clone then has the same champion and verdict.

    Every byte is checked, and what was altered is refused. Nothing that comes is run or unpickled.
    """
    from mlops_local.services import share

    with settings.progress() as emit:
        moved = share.pull(
            settings.project(), settings.directory / folder, everything=everything, data=data, dry_run=dry_run, emit=emit
        )
    _show(settings, "pull", moved, "pulled from")


@click.command(
    epilog="\b\nExamples:\n  mlops pack flights.mlops\n  mlops pack best.mlops delay@3\n  mlops pack backup.mlops --all"
)
@click.argument("file", type=_FOLDER, metavar="FILE")
@click.argument("refs", nargs=-1, metavar="[RUN|VERSION]...")
@click.option("--all", "everything", is_flag=True, help="All runs, versions and snapshots.")
@json_option
@click.pass_obj
def pack(settings: Settings, file: Path, refs: tuple[str, ...], everything: bool) -> None:
    """Write runs and versions with their data into one new file; what mlops.lock names when none is given."""
    from mlops_local.services import share

    if refs and everything:
        raise click.UsageError("--all packs everything; leave the names out")
    with settings.progress() as emit:
        moved = share.pack(settings.project(), settings.directory / file, refs, everything=everything, emit=emit)
    _show(settings, "pack", moved, "packed into")


@click.command(
    epilog="\b\nExamples:\n  mlops unpack flights.mlops\n  mlops unpack --list flights.mlops\n  mlops unpack FILE --data"
)
@click.argument("file", type=_FOLDER, metavar="FILE")
@click.option("--list", "only_list", is_flag=True, help="Say what it holds; needs no project.")
@_DATA
@_DRY
@json_option
@click.pass_obj
def unpack(settings: Settings, file: Path, only_list: bool, data: bool, dry_run: bool) -> None:
    """Take in what `mlops pack` wrote. Every byte is checked, and nothing that comes is run or unpickled."""
    from mlops_local.services import share

    if only_list:
        _list(settings, settings.directory / file)
        return
    with settings.progress() as emit:
        moved = share.unpack(settings.project(), settings.directory / file, data=data, dry_run=dry_run, emit=emit)
    _show(settings, "unpack", moved, "unpacked from")


@click.command(epilog="\b\nExamples:\n  mlops checkout @latest --to ../again\n  mlops checkout delay@3 --to ../delay-3 --env")
@click.argument("ref", metavar="RUN")
@click.option("--to", "folder", type=_FOLDER, required=True, metavar="DIR", help="A new or empty folder.")
@click.option("--env", is_flag=True, help="Also make a virtual environment with the packages the run had.")
@json_option
@click.pass_obj
def checkout(settings: Settings, ref: str, folder: Path, env: bool) -> None:
    """Put what a run was made of into a new folder: code with uncommitted changes, data, parameters, package versions.

    What cannot be had back is listed. The project itself is not touched.
    """
    from mlops_local.cli import output
    from mlops_local.services.checkout import checkout as verb

    with settings.progress() as emit:
        made = verb(settings.project(), ref, settings.directory / folder, env=env, emit=emit)
    if settings.json:
        output.fields("checkout", made)
        return
    output.pairs(
        [
            ("folder", made.folder),
            ("code", made.commit and made.commit[:8] + (" with its uncommitted changes" if made.changed else "")),
            ("data", _many(made.files, "file") if made.files else ""),
            ("packages", made.pins and f"{len(made.packages)} in {made.pins}"),
            ("environment", made.environment),
            ("run again", made.command),
        ]
    )
    for text in made.missing:
        diagnostics.warn(f"not restored: {text}")


def _show(settings: Settings, what: str, moved: Moved, done: str) -> None:
    from mlops_local.cli import output

    if settings.json:
        output.fields(what, moved)
        return
    kinds = [("version", moved.versions), ("snapshot", moved.snapshots), ("run", moved.runs)]
    output.pairs([(_many(len(names), kind), _few(names)) for kind, names in kinds if names])
    verb = f"would be {done}" if moved.dry_run else done
    if moved.contents or moved.journals:
        was = f"; {_many(moved.there, 'object')} there already" if moved.there else ""
        output.line(f"{_many(moved.contents, 'object')}, {output.size(moved.bytes)}, {verb} {moved.place}{was}")
    else:
        output.line(f"nothing new: {_many(moved.there, 'object')} there already")
    for path in moved.files:
        output.line(f"put back {path}")
    for version in moved.champions:
        output.line(f"{version} is the champion of {version.rpartition('@')[0]}")


def _list(settings: Settings, file: Path) -> None:
    from mlops_local.cli import output
    from mlops_local.services import share

    found = share.listing(file)
    if settings.json:
        output.fields("pack-list", found)
        return
    snapshots = [
        ("snapshot", f"{source} {id[:8]}", f"{_many(files, 'file')}, {output.size(size)}")
        for source, id, files, size in found.snapshots
    ]
    versions = [
        ("version", version.id, f"{version.metric} {version.value:.4f}, {version.candidate}") for version in found.versions
    ]
    runs = [("run", id[16:24], name) for id, name in found.runs]
    output.table(
        [output.Column("what", keep=True), output.Column("name", keep=True), output.Column("about")],
        [*snapshots, *versions, *runs],
    )
    output.line(f"{found.project}: {_many(found.contents, 'object')}, {output.size(found.bytes)}")


def _many(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"


def _few(names: tuple[str, ...]) -> str:
    short = [name[16:24] if len(name) == 32 else name for name in names]
    return ", ".join(short[:6]) + (f" … and {len(short) - 6} more" if len(short) > 6 else "")


@click.command(epilog="\b\nExamples:\n  mlops gc\n  mlops gc --yes\n  mlops gc --json | jq .bytes")
@click.option("--yes", is_flag=True, help="Remove it; without this, nothing is changed.")
@json_option
@click.pass_obj
def gc(settings: Settings, yes: bool) -> None:
    """Show what no run, version, snapshot or working process needs, and why; with --yes remove it.

    Removed runs can be taken back until then. What is younger than a day is left.
    """
    from mlops_local.cli import output
    from mlops_local.services import gc as service

    with settings.progress() as emit:
        freed = service.gc(settings.project(), yes=yes, emit=emit)
    if settings.json:
        output.fields("gc", freed)
        return
    right = [output.Column(name, right=True, keep=True) for name in ("count", "size")]
    rows = [(heap.kind, heap.count, output.size(heap.bytes), heap.why) for heap in freed.heaps]
    if rows:
        output.table([output.Column("what", keep=True), *right, output.Column("why")], rows)
    verb = "freed" if freed.removed else "can be freed"
    output.line(f"{output.size(freed.bytes)} {verb}; {freed.needed} objects are needed" + _young(freed.young))
    if rows and not freed.removed:
        diagnostics.say("nothing was removed; `mlops gc --yes` does it")


def _young(count: int) -> str:
    return f", {count} are too young to tell" if count else ""
