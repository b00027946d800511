"""Keep mlops.lock true: which snapshots and champions the working tree stands for. Train, promote and rollback write it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace

from mlops_local.domain.assets import ModelVersion, Snapshot
from mlops_local.domain.errors import ConfigError
from mlops_local.domain.graph import Graph
from mlops_local.services.project import Project
from mlops_local.store import lock, lockfile, registry
from mlops_local.store.lockfile import LockFile, ModelEntry, SourceEntry


def write(project: Project, graph: Graph, snapshots: Mapping[str, Snapshot]) -> bool:
    """Write the snapshots and champions of this moment; entries of sources and models that are gone go too.

    Returns whether the file changed.
    """
    with _queue(project):
        try:
            before = _before(project)
        except ConfigError:
            before = LockFile()  # an unfinished merge or a damaged line: written anew, as the error's hint promises elsewhere
        known = {source.name for source in graph.sources}
        sources = {name: entry for name, entry in before.sources.items() if name in known}
        sources.update({name: SourceEntry(s.id, s.rows, s.bytes) for name, s in snapshots.items()})
        # A champion this store does not hold stays named until one of this store takes its place.
        champions = {**before.models, **_champions(project)}
        return lockfile.write(
            project.layout, LockFile(sources, {m.name: champions[m.name] for m in graph.models if m.name in champions})
        )


def champions_named(project: Project) -> Mapping[str, ModelEntry]:
    """The champions the file names now; none where it cannot be read."""
    try:
        return _before(project).models
    except ConfigError:
        return {}


def write_champions(project: Project) -> bool:
    """Write the champions of this moment beside the sources the file has. Returns whether the file changed."""
    with _queue(project):
        before = _before(project)
        return lockfile.write(project.layout, replace(before, models={**before.models, **_champions(project)}))


def _queue(project: Project) -> AbstractContextManager[None]:
    """One writer at a time, and no decision meanwhile: whoever writes last has seen every decision made before."""
    return lock.hold(project.layout.ledger_lock, wait_s=project.store.wait_s)


def _before(project: Project) -> LockFile:
    return lockfile.read(project.layout.lockfile)


def _champions(project: Project) -> dict[str, ModelEntry]:
    state = registry.load(project.layout)
    models = {version.model for version in state.versions.values()}
    found = {name: state.champion(name) for name in sorted(models)}
    return {name: _entry(version) for name, version in found.items() if version is not None}


def _entry(version: ModelVersion) -> ModelEntry:
    return ModelEntry(
        champion=version.id,
        fingerprint=version.fingerprint,
        evaluation=version.evaluation,
        metric=version.metric,
        value=version.value,
        bundle=version.bundle_hash,
        low=version.low,
        high=version.high,
    )
