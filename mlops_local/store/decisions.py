"""What the ledger says, as rows of the tables it goes to. Pure: decisions in, rows out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from mlops_local.domain import events
from mlops_local.store.facts import clean, real, text
from mlops_local.store.ledger import Line
from mlops_local.store.registry import Registry, verdict_from_json


def ledger_rows(lines: Sequence[Line]) -> list[tuple[Any, ...]]:
    """Rows of table `ledger`; the last column is the line itself, from which a cut ledger can be mended."""
    return [
        (
            line.seq,
            line.prev,
            line.hash,
            line.kind,
            iso(line.at),
            clean(line.actor),
            clean(line.host),
            clean(line.subject),
            line.expect,
            line.value,
            clean(line.reason),
            text(line.data),
            json.dumps(vars(line), separators=(",", ":")),
        )
        for line in lines
    ]


def registry_rows(registry: Registry) -> dict[str, list[tuple[Any, ...]]]:
    """Rows of the tables that the decisions so far amount to."""
    made: dict[str, list[tuple[Any, ...]]] = {
        name: [] for name in ("version", "version_snapshot", "alias", "gate_result", "deployment", "deleted")
    }
    for version in registry.versions.values():
        made["version"].append(
            (
                version.id,
                version.model,
                version.number,
                version.candidate,
                version.run,
                version.state,
                version.metric,
                real(version.value),
                real(version.low),
                real(version.high),
                text(dict(version.metrics)),
                version.fingerprint,
                text(dict(version.bundle)),
                version.bundle_hash,
                version.predictions,
                version.evaluation,
                text(dict(version.snapshots)),
                iso(version.created),
            )
        )
        made["version_snapshot"] += [(version.id, source, snapshot) for source, snapshot in version.snapshots.items()]
    newest: dict[str, Line] = {}
    for line in registry.lines:
        match line.kind:
            case events.ALIAS:
                newest[line.subject] = line
            case events.VERDICT if line.subject in registry.versions:
                made["gate_result"] += _gates(line)
            case events.DEPLOYMENT:
                data = line.data
                made["deployment"].append(
                    (
                        line.subject,
                        line.value,
                        data.get("event", "deployed"),
                        data.get("port"),
                        data.get("pid"),
                        clean(data.get("reason", line.reason)),
                        iso(line.at),
                        line.seq,
                    )
                )
            case _:
                pass
    made["deleted"] = [(subject,) for subject in sorted(registry.removed)]
    for name, version_id in registry.aliases.items():
        line = newest[name]
        model, _, alias = name.rpartition("@")
        made["alias"].append((name, model, alias, version_id, iso(line.at), clean(line.actor), clean(line.reason)))
    return made


def _gates(line: Line) -> list[tuple[Any, ...]]:
    verdict = verdict_from_json(line.data)
    return [
        (
            verdict.version,
            verdict.baseline,
            gate.metric,
            gate.rule,
            gate.verdict,
            real(gate.candidate),
            real(gate.champion),
            real(gate.difference),
            real(gate.low),
            real(gate.high),
            gate.rows,
            gate.clusters,
            clean(gate.note),
            iso(line.at),
        )
        for gate in verdict.gates
    ]


def iso(value: str) -> datetime | None:
    """A ledger time as tables hold it; None where it is not one."""
    try:
        return datetime.fromisoformat(value).replace(tzinfo=None)
    except ValueError:
        return None
