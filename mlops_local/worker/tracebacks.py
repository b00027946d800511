"""Show a user's exception as if our code were not there: their frames, paths relative to the project."""

from __future__ import annotations

import importlib
import os
import traceback
from pathlib import Path

import mlops_local

_MACHINERY = ("<frozen importlib", importlib.__file__)
OURS = str(Path(mlops_local.__file__).resolve().parent) + os.sep


def render(error: BaseException, root: Path) -> str:
    """The traceback text: ours and the import machinery's frames cut off, also in causes and contexts."""
    shown = traceback.TracebackException.from_exception(error, compact=True)
    _cut(shown, str(root) + os.sep)
    return "".join(shown.format())


def place(error: BaseException, root: Path) -> str:
    """`pipeline.py:31` of the innermost frame of project code, or empty."""
    prefix = str(root) + os.sep
    found = ""
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename.startswith(prefix) and f"{os.sep}site-packages{os.sep}" not in frame.filename:
            found = f"{frame.filename.removeprefix(prefix)}:{frame.lineno}"
    return found


def _cut(shown: traceback.TracebackException, prefix: str) -> None:
    frames = []
    for frame in shown.stack:
        if frame.filename.startswith((OURS, *_MACHINERY)):
            continue
        if frame.filename.startswith(prefix):
            frame.filename = frame.filename.removeprefix(prefix)
        frames.append(frame)
    shown.stack[:] = frames
    for inner in (shown.__cause__, shown.__context__):
        if inner is not None:
            _cut(inner, prefix)
