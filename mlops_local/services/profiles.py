"""What was found out about a file's content, by its hash: a table's sketches one file each, the sizes of pictures together.

Of a source of many tables, groups of them are kept added up too.

All of it can be deleted: the next snapshot reads the files again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from mlops_local.domain.errors import Unsettled
from mlops_local.domain.graph import Source
from mlops_local.engines.data import files, profile
from mlops_local.engines.data.profile import Known
from mlops_local.services.project import Project
from mlops_local.store import cache, stats

Begun = Mapping[str, tuple[str, int]]
"""Path -> hash and size of what a file held before it grew."""


@contextmanager
def known(project: Project, source: Source, hashes: Mapping[str, str], begun: Begun) -> Iterator[Known]:
    """Give what is known of a source's files, and keep what is found out.

    Args:
        project: the project.
        source: whose files they are.
        hashes: path -> hash of the content that is there now.
        begun: of files that have only grown, what they begin with.

    Raises:
        Unsettled: a picture that was looked into is not what it was when it was hashed.
    """
    if source.kind == "files":
        before = cache.pictures(project.layout, source.name)
        now = {hash: before[hash] for hash in before.keys() & hashes.values()} if before else {}
        fresh: dict[str, Mapping[str, Any]] = {}
        yield Known(lambda path: now.get(hashes[path]), lambda path, value: fresh.update({path: value}))
        if fresh:
            _require_same(project, source, fresh)
        now |= {hashes[path]: value for path, value in fresh.items()}
        if now != before:
            cache.save_pictures(project.layout, source.name, now)
        return
    yield replace(
        by_content(project, hashes, begun, source=source.name),
        save_group=lambda number, paths, value: cache.save_group(
            project.layout, source.name, number, _together(hashes, paths), value
        ),
    )


def _together(hashes: Mapping[str, str], paths: Sequence[str]) -> str:
    """What the bytes of some files are called together."""
    return hashlib.sha256(" ".join([profile.version(), *(hashes[path] for path in paths)]).encode()).hexdigest()


def by_content(project: Project, hashes: Mapping[str, str], begun: Begun | None = None, *, source: str = "") -> Known:
    """Give what is known of tables, by path, and keep what is found out.

    Args:
        project: the project.
        hashes: path -> hash of the content.
        begun: as `known`.
        source: whose version they are, if any; groups that are as in its newest one are known.
    """
    version = profile.version()

    def load(path: str) -> Mapping[str, Any] | None:
        return cache.sketches(project.layout, f"{hashes[path]}-{version}")

    def earlier(path: str) -> tuple[Mapping[str, Any], int] | None:
        hash, size = (begun or {}).get(path, ("", 0))
        held = cache.sketches(project.layout, f"{hash}-{version}") if hash else None
        return (held, size) if held is not None else None

    def save(path: str, value: Mapping[str, Any]) -> None:
        cache.save_sketches(project.layout, f"{hashes[path]}-{version}", value)

    def group(number: int, paths: Sequence[str]) -> Mapping[str, Any] | None:
        return cache.group(project.layout, source, number, _together(hashes, paths)) if source else None

    return Known(load, save, earlier, group)


def _require_same(project: Project, source: Source, paths: Iterable[str]) -> None:
    held = stats.read(project.layout, source.name)
    if held is None:
        return
    hashed = dict(zip(held.listing.paths, range(len(held.hashes)), strict=True))
    for path in paths:
        if path in hashed and held.listing.stamp(hashed[path]) != files.stamp(project.root / path):
            raise Unsettled(
                f"source {source.name}: {path} changed while it was read", hint="run the command again when the writer is done"
            )
