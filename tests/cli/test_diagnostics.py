from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mlops_local.cli.diagnostics import ExitCode
from mlops_local.domain import errors

ROOT = Path(__file__).parents[2]


def _piped(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **env}, cwd=ROOT, timeout=30
    )


def _terminal(code: str, **env: str) -> str:
    """Run Python whose stderr is a terminal; return what it showed."""
    leader, follower = pty.openpty()
    kept = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    process = subprocess.Popen(
        [sys.executable, "-c", code], stderr=follower, stdout=subprocess.DEVNULL, env={**kept, "TERM": "xterm", **env}, cwd=ROOT
    )
    os.close(follower)
    shown = b""
    while True:
        try:
            piece = os.read(leader, 4096)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        shown += piece
    os.close(leader)
    assert process.wait(timeout=30) == 0
    return shown.decode()


SAY = "from mlops_local.cli import diagnostics as d\n"
STEPS = SAY + (
    "import time\n"
    "from mlops_local.domain.progress import Progress\n"
    "with d.progress() as emit:\n"
    "    emit(Progress('step_started', 'split: never run', step='split'))\n"
    "    time.sleep(0.25)\n"
    "    emit(Progress('output', 'a line the step printed', step='split'))\n"
    "    emit(Progress('warning', 'rows were dropped'))\n"
    "    emit(Progress('step_ended', 'split: done in 0.2 s', step='split'))\n"
)


def test_an_error_is_its_message_then_the_way_out() -> None:
    """stderr holds `error:` and `hint:`, without colour in a pipe; stdout stays empty."""
    shown = _piped(SAY + "d.error('it broke', hint='mend it', more=['and this'])")
    assert (shown.stdout, shown.stderr) == ("", "error: it broke\n       and this\nhint: mend it\n")


def test_a_users_traceback_comes_before_the_message() -> None:
    """What the user reads last is what to do."""
    shown = _piped(SAY + "d.error('step gbm failed', hint='h', detail='Traceback…\\nValueError: x\\n')")
    assert shown.stderr.splitlines() == ["Traceback…", "ValueError: x", "error: step gbm failed", "hint: h"]


def test_colour_only_on_a_terminal_and_only_as_decoration() -> None:
    """A terminal gets colour, and the same words; NO_COLOR and --no-color take it away."""
    code = SAY + "d.error('it broke')"
    assert "\x1b[31merror:\x1b[0m it broke" in _terminal(code)
    assert _terminal(code, NO_COLOR="1") == "error: it broke\r\n"
    assert _terminal(SAY + "d.configure(color=False)\nd.error('it broke')") == "error: it broke\r\n"
    assert _terminal(code, TERM="dumb") == "error: it broke\r\n"


def test_control_characters_of_others_are_escaped() -> None:
    """A message that quotes a hostile file name cannot drive the terminal."""
    assert "\x1b]0;" not in _terminal(SAY + "d.error('file \\x1b]0;title\\x07 is gone')", NO_COLOR="1")
    assert "\\x1b]0;title\\x07" in _piped(SAY + "d.error('file \\x1b]0;title\\x07 is gone')").stderr


def test_progress_in_a_pipe_is_one_plain_line_an_event() -> None:
    """No carriage returns, no spinner: a CI log stays readable. A step's own output only with -v."""
    assert _piped(STEPS).stderr.splitlines() == ["split: never run", "warning: rows were dropped", "split: done in 0.2 s"]
    assert "a line the step printed" in _piped(STEPS.replace("import time\n", "import time\nd.configure(verbose=1)\n")).stderr


def test_progress_on_a_terminal_is_one_live_line_that_leaves_no_trace() -> None:
    """The running step is redrawn in place with the time it takes; the end leaves only whole lines."""
    shown = _terminal(STEPS, NO_COLOR="1")
    assert re.search(r"\r\x1b\[K. split: never run  0 s", shown)
    final = [line.rpartition("\x1b[K")[2] for line in shown.replace("\r\n", "\n").split("\n")]
    assert final == ["warning: rows were dropped", "split: done in 0.2 s", ""]


def test_quiet_keeps_warnings_and_errors() -> None:
    """-q silences talk and progress, never what went wrong."""
    shown = _piped(STEPS.replace("import time\n", "import time\nd.configure(quiet=True)\n") + "d.say('talk')\nd.error('bad')\n")
    assert shown.stderr == "warning: rows were dropped\nerror: bad\n"


def test_a_closed_stderr_is_not_an_error() -> None:
    """There may be nobody to talk to."""
    shown = subprocess.run(["sh", "-c", f'"{sys.executable}" -c "{SAY}d.say(1 * \'x\')" 2>&-'], cwd=ROOT, timeout=30)
    assert shown.returncode == 0


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.MlopsError, ExitCode.FAILED),
        (errors.StepFailed, ExitCode.FAILED),
        (errors.Unwritable, ExitCode.FAILED),
        (errors.UsageError, ExitCode.USAGE),
        (errors.ProjectNotFound, ExitCode.USAGE),
        (errors.ConfigError, ExitCode.USAGE),
        (errors.DataError, ExitCode.USAGE),
        (errors.Unsettled, ExitCode.USAGE),
        (errors.AmbiguousReference, ExitCode.USAGE),
        (errors.NoVerdict, ExitCode.NO_VERDICT),
        (errors.StoreBusy, ExitCode.BUSY),
        (errors.IntegrityError, ExitCode.INTEGRITY),
        (errors.NewerStore, ExitCode.INTEGRITY),
        (errors.Conflict, ExitCode.FAILED),
    ],
)
def test_every_error_of_the_tree_has_its_documented_exit_code(kind: type[errors.MlopsError], code: ExitCode) -> None:
    """The table of exit codes and the tree of errors agree."""
    assert kind.exit_code == code


def test_no_error_class_was_forgotten_in_that_table() -> None:
    """A new error must be given its row above."""

    def tree(kind: type[errors.MlopsError]) -> set[str]:
        return {kind.__name__} | {
            name for child in kind.__subclasses__() if child.__module__ == errors.__name__ for name in tree(child)
        }

    (mark,) = test_every_error_of_the_tree_has_its_documented_exit_code.pytestmark  # type: ignore[attr-defined]
    assert tree(errors.MlopsError) == {row[0].__name__ for row in mark.args[1]}
