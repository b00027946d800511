"""Do something to a library as soon as it is loaded, whoever loads it: a step may import what no other does, in its own body.

Only the process that asks is concerned, and nothing is imported here.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Sequence
from types import ModuleType


def when_loaded(name: str, action: Callable[[], object]) -> None:
    """Call `action` now if the module is loaded, else at the end of its import."""
    if name in sys.modules:
        action()
    else:
        sys.meta_path.insert(0, _Waiting(name, action))


class _Waiting(importlib.abc.MetaPathFinder):
    """Lets the finders behind it find the module, and adds the action to what loads it."""

    def __init__(self, name: str, action: Callable[[], object]) -> None:
        self._name = name
        self._action = action

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The module's spec; None for any other."""
        if fullname != self._name:
            return None
        behind = sys.meta_path[sys.meta_path.index(self) + 1 :]
        # As Python does: an old finder has none, and is passed over.
        ask = (getattr(finder, "find_spec", None) for finder in behind)
        spec = next((found for find in ask if find is not None and (found := find(fullname, path, target))), None)
        if spec is not None and hasattr(spec.loader, "exec_module"):
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                self._action()

            spec.loader.exec_module = exec_module
        return spec
