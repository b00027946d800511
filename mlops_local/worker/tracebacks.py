"""Show a user's exception as if our code were not there: their frames, paths relative to the project."""

from __future__ import annotations

import importlib
import os
import traceback
from pathlib import Path

import mlops_local

LONGEST = 8000
"""Characters of a traceback that are kept: an error's text may be any size."""
LONGEST_SENTENCE = 1000
_MACHINERY = ("<frozen importlib", importlib.__file__)
_POLARS = f"{os.sep}site-packages{os.sep}polars{os.sep}"
"""Its frames in Python only hand a query on to what runs it."""
OURS = str(Path(mlops_local.__file__).resolve().parent) + os.sep


def render(error: BaseException, root: Path) -> str:
    """The traceback text: ours and the import machinery's frames cut off, also in causes and contexts."""
    shown = traceback.TracebackException.from_exception(error, compact=True)
    _cut(shown, str(root) + os.sep)
    return bounded("".join(shown.format()))


def sentence(error: BaseException) -> str:
    """`ValueError: no rows`, whatever the error does when it is asked for its text, and however long that is."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - the user's own __str__
        text = "(its text cannot be had)"
    if type(error).__module__.startswith("polars."):
        text = text.partition("\n\n")[0]  # then comes the plan of the query, which the traceback has
    return bounded(f"{type(error).__name__}: {text}".strip().removesuffix(":"), LONGEST_SENTENCE)


def bounded(text: str, limit: int = LONGEST) -> str:
    """The text, or its beginning and end with what is left out between them."""
    if len(text) <= limit:
        return text
    return f"{text[: limit // 2]}\n[... {len(text) - limit // 2 * 2:,} characters left out ...]\n{text[-(limit // 2) :]}"


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
        if frame.filename.startswith((OURS, *_MACHINERY)) or _POLARS in frame.filename:
            continue
        if frame.filename.startswith(prefix):
            frame.filename = frame.filename.removeprefix(prefix)
        frames.append(frame)
    shown.stack[:] = frames
    for inner in (shown.__cause__, shown.__context__):
        if inner is not None:
            _cut(inner, prefix)
