"""What the snapshots take on the disk: by source and by version, and what they share.

A version's own bytes are those that would go if it alone were removed; shared ones are counted once in the total, however many
versions have them. Reads listings only, never a file's content.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from mlops_local.services.project import Project
from mlops_local.store import history, objects, packfiles, packs, projection
from mlops_local.store.packfiles import Stretch

Version = tuple[str, str]
"""Source and snapshot id."""
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Use:
    """What one version takes."""

    source: str
    snapshot: str
    files: int
    bytes: int
    """Of its files, as they are in the project."""
    stored: int
    """What keeps them: chunks, compressed, shared or not."""
    unique: int
    """Of that, what no other version needs."""
    kept: str
    """full or reference."""


@dataclass(frozen=True)
class Usage:
    """What all versions take."""

    versions: tuple[Use, ...]
    """Newest seen first."""
    stored: int
    """Bytes that some version needs, each counted once."""
    sources: dict[str, int]
    """Of that, what only versions of the one source need."""
    unneeded: int
    """Bytes in packs that no version needs: what `mlops gc` may free."""


def usage(project: Project) -> Usage:
    """Work out what the snapshots take."""
    projection.fold(project.store)
    with project.store.reader() as db:
        heads = history.snapshot_heads(db)
        held = history.snapshot_contents(db)
    contents = {version: hashes for version, (_, hashes) in held.items()}
    index = packs.index(project.layout)
    places: dict[str, tuple[Stretch, ...]] = {}
    for hash in {hash for hashes in contents.values() for hash in hashes}:
        kept = index.get(hash)
        if kept is not None:
            places[hash] = kept.stretches
        elif objects.exists(project.layout, hash):  # of a version that had a file for each content
            places[hash] = (Stretch(hash, 0, objects.path(project.layout, hash).stat().st_size),)
    stored: Counter[Version] = Counter()
    unique: Counter[Version] = Counter()
    sources: Counter[str] = Counter()
    total = 0
    for length, groups in _segments(_together(contents, places)):
        versions = frozenset().union(*groups)
        total += length
        stored.update(dict.fromkeys(versions, length))
        if len(versions) == 1:
            unique.update(dict.fromkeys(versions, length))
        owners = {source for source, _ in versions}
        if len(owners) == 1:
            sources.update(dict.fromkeys(owners, length))
    uses = []
    for head in heads:
        key = (head.source, head.id)
        files, _ = held.get(key, (0, ()))
        uses.append(Use(head.source, head.id, files, head.bytes, stored[key], unique[key], head.kept))
    return Usage(tuple(uses), total, dict(sources), max(0, index.bytes - sum(_packed(places.values()))))


def _together(
    contents: Mapping[Version, Iterable[str]], places: Mapping[str, tuple[Stretch, ...]]
) -> dict[frozenset[Version], tuple[Stretch, ...]]:
    """What the same versions hold, as few stretches as that makes: versions of many files have nearly all of them in common."""
    holders: dict[str, list[Version]] = defaultdict(list)
    for version, hashes in contents.items():
        for hash in hashes:
            holders[hash].append(version)
    groups: dict[tuple[Version, ...], list[Stretch]] = defaultdict(list)
    for hash, versions in holders.items():
        groups[tuple(versions)].extend(places.get(hash, ()))
    return {frozenset(versions): packfiles.joined(sorted(stretches)) for versions, stretches in groups.items()}


def _packed(places: Iterable[tuple[Stretch, ...]]) -> Iterator[int]:
    """Lengths of what is needed of the packs, each byte once."""
    held = {None: packfiles.joined(sorted(at for stretches in places for at in stretches if len(at.pack) < 64))}
    return (length for length, _ in _segments(held))


def _segments(held: Mapping[Key, Sequence[Stretch]]) -> Iterator[tuple[int, frozenset[Key]]]:
    """Cut all stretches where any begins or ends; yield the length of each part and who holds it."""
    edges: dict[str, dict[int, list[tuple[Key, int]]]] = defaultdict(lambda: defaultdict(list))
    for key, stretches in held.items():
        for at in stretches:
            edges[at.pack][at.offset].append((key, 1))
            edges[at.pack][at.end].append((key, -1))
    for marks in edges.values():
        now: Counter[Key] = Counter()
        before = 0
        for place in sorted(marks):
            holders = frozenset(key for key, count in now.items() if count > 0)
            if holders:
                yield place - before, holders
            for key, step in marks[place]:
                now[key] += step
            before = place
