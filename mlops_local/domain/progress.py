"""What a verb says while it works. A face decides how to show it; nobody else prints."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any

from mlops_local.domain.records import dataclass


@dataclass(frozen=True)
class Progress:
    """One thing that happened.

    `kind`: snapshot, plan, run, step_started, step_ended, output, version, verdict, alias, note, warning, watch (the one line a
    watched change ends in) or served (what the watcher's server said).
    """

    kind: str
    text: str
    """One line a person understands on its own."""
    step: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


Emit = Callable[[Progress], None]


def ignore(progress: Progress) -> None:
    """Say nothing."""


def one_at_a_time(emit: Emit) -> Emit:
    """The same, for several threads: each has said its line before the next begins."""
    talking = threading.Lock()

    def say(progress: Progress) -> None:
        with talking:
            emit(progress)

    return say
