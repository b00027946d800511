"""A tracked command goes on whatever happens to what we keep of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlops_local.domain.errors import UsageError
from mlops_local.services import track
from mlops_local.services.history import runs


def test_a_full_disk_costs_the_log_not_the_command() -> None:
    """What cannot be kept is dropped: the pipe of the command is read on, so that it never waits for a reader that died."""
    with Path("/dev/full").open("wb", buffering=0) as full:
        log = track._Log(full)
        log.keep(b"one line\n")
        log.keep(b"another\n")


def test_a_program_that_does_not_start_is_a_failed_run(story: Any) -> None:
    """A file that may be executed and is no program: the run says so, and is not called cancelled."""
    script = story.project.root / "tool"
    script.write_text("no interpreter line\n")
    script.chmod(0o755)
    with pytest.raises(UsageError, match="does not start"):
        track.run_command(story.project, [str(script)])
    ((run,), _) = runs(story.project)
    assert run.state == "failed" and "format" in run.error.lower()
