"""What a user's code imports. Names resolve on first use: `import mlops_local` and its declarations load nothing heavy."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlops_local.api.checkpoints import Checkpoint, checkpoint, epochs, resume, should_stop
    from mlops_local.api.command import command
    from mlops_local.api.declare import data, model, seed, source, step, transform
    from mlops_local.api.encoding import out_of_fold
    from mlops_local.api.load import load, load_model
    from mlops_local.api.run import log, log_artifact, log_eval, log_figure, log_model, log_params, log_table, run
    from mlops_local.api.running import Run
    from mlops_local.api.seeding import seed_everything
    from mlops_local.api.splits import kfold, rolling
    from mlops_local.domain.xy import XY, concat

__all__ = [
    "XY",
    "Checkpoint",
    "Run",
    "checkpoint",
    "command",
    "concat",
    "data",
    "epochs",
    "kfold",
    "load",
    "load_model",
    "log",
    "log_artifact",
    "log_eval",
    "log_figure",
    "log_model",
    "log_params",
    "log_table",
    "model",
    "out_of_fold",
    "resume",
    "rolling",
    "run",
    "seed",
    "seed_everything",
    "should_stop",
    "source",
    "step",
    "transform",
]

_HOMES = {
    "XY": "mlops_local.domain.xy",
    "Checkpoint": "mlops_local.api.checkpoints",
    "checkpoint": "mlops_local.api.checkpoints",
    "concat": "mlops_local.domain.xy",
    "command": "mlops_local.api.command",
    "data": "mlops_local.api.declare",
    "epochs": "mlops_local.api.checkpoints",
    "kfold": "mlops_local.api.splits",
    "load": "mlops_local.api.load",
    "load_model": "mlops_local.api.load",
    "Run": "mlops_local.api.running",
    "log": "mlops_local.api.run",
    "log_artifact": "mlops_local.api.run",
    "log_eval": "mlops_local.api.run",
    "log_figure": "mlops_local.api.run",
    "log_model": "mlops_local.api.run",
    "log_params": "mlops_local.api.run",
    "log_table": "mlops_local.api.run",
    "model": "mlops_local.api.declare",
    "out_of_fold": "mlops_local.api.encoding",
    "resume": "mlops_local.api.checkpoints",
    "rolling": "mlops_local.api.splits",
    "run": "mlops_local.api.run",
    "seed": "mlops_local.api.declare",
    "seed_everything": "mlops_local.api.seeding",
    "should_stop": "mlops_local.api.checkpoints",
    "source": "mlops_local.api.declare",
    "step": "mlops_local.api.declare",
    "transform": "mlops_local.api.declare",
}


def __getattr__(name: str) -> Any:
    """Load the module a public name lives in, and keep the name."""
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module 'mlops_local' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


class _Api(ModuleType):
    """`run` and `load` are functions to the user and modules to us: importing the module must not hide the function."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Api


def __dir__() -> list[str]:
    """Public names, for completion in a REPL."""
    return list(__all__)
