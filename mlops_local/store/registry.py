"""What the ledger's decisions amount to: versions, champions, verdicts and deployments. Reading only, no DuckDB."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from typing import Any

from mlops_local.domain import events
from mlops_local.domain.assets import Deployment, GateResult, ModelVersion, Verdict
from mlops_local.domain.records import dataclass
from mlops_local.store import ledger
from mlops_local.store.layout import Layout
from mlops_local.store.ledger import Line


@dataclass(frozen=True)
class Registry:
    """The decisions so far, applied."""

    versions: Mapping[str, ModelVersion] = field(default_factory=dict)
    """Version id -> version, in the order they were registered, with the present state."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """`delay@champion` -> version id."""
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    """Version id -> newest verdict."""
    deployments: Sequence[Deployment] = ()
    """Newest last."""
    removed: frozenset[str] = frozenset()
    """What was removed and not taken back: runs, by id."""
    lines: Sequence[Line] = ()
    """Every decision, oldest first."""

    def champion(self, model: str) -> ModelVersion | None:
        """Return the version that is to be served."""
        return self.versions.get(self.aliases.get(f"{model}@champion", ""))

    def models(self) -> list[str]:
        """Return the names of models with a version, sorted."""
        return sorted({version.model for version in self.versions.values()})

    def of(self, model: str) -> list[ModelVersion]:
        """Return a model's versions, newest first."""
        return [version for version in reversed(list(self.versions.values())) if version.model == model]

    def deployed(self, model: str) -> Deployment | None:
        """Return what the newest server that has not said it stopped serves; None when there is none.

        Whether that process still lives is for the caller to ask.
        """
        stopped = set()
        for deployment in reversed(self.deployments):
            server = (deployment.pid, deployment.port)
            if deployment.model != model or server in stopped or deployment.event == "rejected":
                continue
            if deployment.event == "deployed":
                return deployment
            stopped.add(server)
        return None


def load(layout: Layout) -> Registry:
    """Apply the ledger. The same object is returned while the ledger stands still.

    Raises:
        IntegrityError: the ledger cannot be read.
    """
    lines = ledger.read(layout)
    kept = _kept.get(id(lines))
    if kept is not None and kept.lines is lines:
        return kept
    registry = apply(lines)
    _kept.clear()
    _kept[id(lines)] = registry
    return registry


_kept: dict[int, Registry] = {}


def apply(lines: Sequence[Line]) -> Registry:
    """Return what these decisions amount to. Raises IntegrityError: one is not what was written."""
    versions: dict[str, ModelVersion] = {}
    aliases: dict[str, str] = {}
    verdicts: dict[str, Verdict] = {}
    deployments: list[Deployment] = []
    for line in lines:
        try:
            _take(line, versions, aliases, verdicts, deployments)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ledger.unreadable(line.seq) from error
    return Registry(versions, aliases, verdicts, deployments, removed(lines), lines)


def _take(
    line: Line,
    versions: dict[str, ModelVersion],
    aliases: dict[str, str],
    verdicts: dict[str, Verdict],
    deployments: list[Deployment],
) -> None:
    match line.kind:
        case events.VERSION:
            versions[line.subject] = ledger.version_from_json(line.data)
        case events.STATE if line.subject in versions and line.value:
            versions[line.subject] = replace(versions[line.subject], state=line.value)
        case events.ALIAS:
            _set(aliases, line.subject, line.value)
        case events.VERDICT:
            verdicts[line.subject] = verdict_from_json(line.data)
        case events.DEPLOYMENT:
            deployments.append(_deployment(line))
        case events.DELETION:
            versions.pop(line.subject, None)
            verdicts.pop(line.subject, None)
        case _:
            pass  # other kinds decide nothing here


def removed(lines: Sequence[Line]) -> frozenset[str]:
    """Return what was removed and not taken back: runs, by id."""
    found: set[str] = set()
    for line in lines:
        if line.kind == events.DELETION:  # "kept": taken back
            (found.discard if line.value == "kept" else found.add)(line.subject)
    return frozenset(found)


def verdict_from_json(value: Mapping[str, Any]) -> Verdict:
    """A verdict from a line's data; keys this program does not know are ignored."""
    known = GateResult.__dataclass_fields__
    gates = tuple(GateResult(**{key: item for key, item in gate.items() if key in known}) for gate in value.get("gates", ()))
    return Verdict(value["version"], value.get("baseline", ""), value["verdict"], gates)


def _set(aliases: dict[str, str], name: str, version: str | None) -> None:
    if version is None:
        aliases.pop(name, None)
    else:
        aliases[name] = version


def _deployment(line: Line) -> Deployment:
    data = line.data
    return Deployment(
        model=line.subject,
        version=line.value or "",
        event=str(data.get("event", "deployed")),
        at=line.at,
        port=int(data.get("port", 0)),
        pid=int(data.get("pid", 0)),
        reason=str(data.get("reason", line.reason)),
    )
