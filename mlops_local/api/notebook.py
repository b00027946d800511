"""The cells of a notebook or an IPython session that a run saw, kept as a script: what was executed, in that order.

IPython is never imported: where it runs, it is there.
"""

from __future__ import annotations

import sys
from typing import Any

from mlops_local.domain import secrets


def position() -> int:
    """Return the number of the cell that is being executed; 0 outside IPython."""
    shell = _shell()
    return 0 if shell is None else int(shell.execution_count)


def cells(first: int) -> str:
    """Return the cells executed since then as a script, secrets struck out; empty outside IPython.

    Args:
        first: what `position` was when the run began.
    """
    shell = _shell()
    if shell is None or not first:
        return ""
    found = shell.history_manager.get_range(0, first, shell.execution_count + 1, raw=True)
    return "\n".join(f"# In [{number}]:\n{secrets.strike(source).rstrip()}\n" for _, number, source in found if source.strip())


def _shell() -> Any:
    module = sys.modules.get("IPython")
    return module.get_ipython() if module is not None and hasattr(module, "get_ipython") else None
