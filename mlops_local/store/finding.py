"""What a look at the store found, as a value. Decides nothing."""

from __future__ import annotations

from dataclasses import dataclass

_INTEGRITY = frozenset({"ledger", "database", "journal", "object"})


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or was."""

    kind: str
    """ledger, database, journal, object: what is stored is not what was written. run, draft, lease, permission, space, clock,
    file, lock, config: anything else."""
    text: str
    """What, where, and what it means; one line."""
    fixed: bool = False
    remedy: str = ""
    """The command that mends it, or what else to do."""

    @property
    def integrity(self) -> bool:
        """Whether something stored is not what was written."""
        return self.kind in _INTEGRITY
