"""A run that a save may end."""

from __future__ import annotations

from typing import Any, cast

import pytest

from mlops_local.domain.progress import ignore
from mlops_local.services.attempt import Attempt


@pytest.mark.parametrize("fails", [False, True])
def test_an_attempt_is_over_when_its_end_is_told(fails: bool) -> None:
    """Whoever is woken by the end finds that it has ended, and with what: nothing wakes them a second time."""
    told: list[tuple[bool, Any, Any]] = []
    attempt = Attempt(cast(Any, None), b"", ())
    error, result = ValueError("no"), cast(Any, "made")

    def work(attempt: Attempt, emit: Any) -> Any:
        assert attempt.running
        if fails:
            raise error
        return result

    attempt.start(work, ignore, lambda: told.append((attempt.running, attempt.result, attempt.error)))
    attempt.join()
    assert told == [(False, None, error) if fails else (False, result, None)]
