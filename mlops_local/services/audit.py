"""Who decided what: the ledger's lines, and whether their chain is whole."""

from __future__ import annotations

from dataclasses import dataclass

from mlops_local.services.project import Project
from mlops_local.store import ledger
from mlops_local.store.ledger import Line


@dataclass(frozen=True)
class Audit:
    """Decisions, oldest first."""

    lines: tuple[Line, ...]
    total: int
    """How many there are about the subject."""
    problems: tuple[str, ...]
    """What is wrong with the chain; empty when it is whole."""


def audit(project: Project, subject: str = "", *, limit: int | None = None) -> Audit:
    """Return the decisions about a subject and verify the whole chain.

    Args:
        project: the project.
        subject: a model (`delay`: its versions and aliases too), a version or an alias; empty for everything.
        limit: only the newest so many; None for all.
    """
    lines = [line for line in ledger.read(project.layout) if _about(line, subject)]
    shown = lines[-limit:] if limit else lines
    return Audit(tuple(shown), len(lines), tuple(ledger.verify(project.layout)))


def _about(line: Line, subject: str) -> bool:
    return not subject or subject in {line.subject, line.subject.partition("@")[0], line.value}
