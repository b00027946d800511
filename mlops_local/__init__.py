"""The whole machine-learning loop on one machine. Public names resolve lazily, from `mlops_local.api` and `reading`."""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False  # as of typing, which takes 6 ms to import
if TYPE_CHECKING:
    from typing import Any

    from mlops_local.api import *  # noqa: F403  (type checkers and editors see the real names; nothing loads at run time)
    from mlops_local.reading import metrics as metrics
    from mlops_local.reading import runs as runs

_READING = ("metrics", "runs")


def __getattr__(name: str) -> Any:
    """Resolve a public name on first use: `import mlops_local` alone costs nothing."""
    import importlib  # noqa: PLC0415  (3 ms with the module below, and only when a name is used)

    # `from mlops_local import api` would ask this very function first
    home = importlib.import_module("mlops_local.reading" if name in _READING else "mlops_local.api")
    try:
        found = globals()[name] = getattr(home, name)
    except AttributeError:
        raise AttributeError(f"module 'mlops_local' has no attribute {name!r}") from None
    return found
