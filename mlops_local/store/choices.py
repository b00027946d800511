"""What a person was asked once, and answered: kept beside the store, so that no file of theirs is written for it."""

from __future__ import annotations

import json
from typing import Any

from mlops_local.store import files
from mlops_local.store.layout import Layout


def choice(layout: Layout, question: str) -> Any:
    """Return the answer to a question; None when it was not asked, or the file cannot be read."""
    return _all(layout).get(question)


def choose(layout: Layout, question: str, answer: Any) -> None:
    """Keep an answer. Raises MlopsError when it cannot be written."""
    files.replace(layout.choices, json.dumps({**_all(layout), question: answer}).encode() + b"\n")


def _all(layout: Layout) -> dict[str, Any]:
    try:
        found = json.loads(layout.choices.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
