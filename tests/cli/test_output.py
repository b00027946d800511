from __future__ import annotations

import json
import math
import os
import pty
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from mlops_local.cli import output
from mlops_local.cli.output import Column
from mlops_local.domain.assets import ColumnProfile
from mlops_local.domain.runs import RunState


@dataclass(frozen=True)
class Thing:
    name: str
    state: RunState
    path: Path


def test_json_lists_travel_in_an_envelope_with_their_schema(capsys: pytest.CaptureFixture[str]) -> None:
    """A list is `{"schema": "mlops/<what>@1", "items": [...]}`; domain values become plain JSON."""
    output.items("runs", [Thing("a", RunState.DONE, Path("x/y"))], total=1)
    assert json.loads(capsys.readouterr().out) == {
        "schema": "mlops/runs@1",
        "items": [{"name": "a", "state": "done", "path": "x/y"}],
        "total": 1,
    }


def test_json_for_one_thing_has_its_fields_beside_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    """One thing is not wrapped."""
    output.fields("run", Thing("a", RunState.CRASHED, Path("p")))
    assert json.loads(capsys.readouterr().out) == {"schema": "mlops/run@1", "name": "a", "state": "crashed", "path": "p"}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (2**53, 2**53),
        (2**53 + 1, str(2**53 + 1)),
        (-(2**60), str(-(2**60))),
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
        (True, True),
        (b"\x00\xff", "00ff"),
        ({"k": (1, {2.5})}, {"k": [1, [2.5]]}),
    ],
)
def test_numbers_other_programs_would_garble_travel_as_text(value: object, shown: object) -> None:
    """Integers beyond 2^53, NaN and infinity are strings; everything else keeps its type."""
    assert output.plain(value) == shown


def test_what_belongs_to_a_class_is_not_said_of_each_thing() -> None:
    """A column's JSON has its own figures, not the levels that all quantiles are taken at."""
    assert "LEVELS" not in output.plain(ColumnProfile("n", "Int64")) and ColumnProfile.LEVELS


def test_a_table_aligns_numbers_right_and_shows_nothing_for_none(capsys: pytest.CaptureFixture[str]) -> None:
    """Columns line up; trailing blanks are not written."""
    output.table(["name", Column("value", right=True)], [("a", 1.5), ("longer", None), ("b", 10)])
    assert capsys.readouterr().out.splitlines() == ["name     value", "a       1.5000", "longer", "b           10"]


def test_control_characters_in_a_users_text_never_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Escape sequences, line breaks and direction marks in a name are shown, not executed."""
    output.table(["name"], [("a\x1b[2Jb\nc\u202ed\x9b",)])
    output.line("\x07bell")
    text = capsys.readouterr().out
    assert "\x1b" not in text and "\x07" not in text and "\u202e" not in text and "\x9b" not in text
    assert "a\\x1b[2Jb\\nc\\u202ed\\x9b" in text


def test_wide_characters_take_two_columns(capsys: pytest.CaptureFixture[str]) -> None:
    """Alignment counts what the terminal shows."""
    output.table(["a", "b"], [("日本", "x"), ("é", "y")])
    assert capsys.readouterr().out.splitlines() == ["a     b", "日本  x", "é     y"]


def test_csv_quotes_what_needs_it_and_keeps_big_integers(capsys: pytest.CaptureFixture[str]) -> None:
    """CSV is for other programs: exact values, RFC 4180 quoting."""
    output.csv(["a", "b"], [('x"y,z', 2**60), (None, True), ("line\nbreak", [1, 2])])
    assert capsys.readouterr().out == f'a,b\n"x""y,z",{2**60}\n,true\n"line\nbreak","[1, 2]"\n'


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.03, "0.03"), (1e-5, "1e-05"), (0.123456789, "0.123456789"), (True, "yes"), ([1, "ü"], '[1, "ü"]'), ("a", "a")],
)
def test_a_parameter_is_shown_as_it_was_given(value: object, shown: str) -> None:
    """No digit of it is rounded away, unlike a metric's."""
    assert output.given(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.71234, "0.7123"), (1.0, "1"), (1e-7, "1e-07"), (123456.789, "1.235e+05"), (math.nan, "NaN"), (-0.05, "-0.0500")],
)
def test_decimals_say_what_matters(value: float, shown: str) -> None:
    """Four digits, none that only look exact."""
    assert output.decimal(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0042, "4 ms"), (5.06, "5.1 s"), (65.0, "1 min 5 s"), (3700.0, "1 h 1 min"), (None, "")]
)
def test_durations_are_readable(value: float | None, shown: str) -> None:
    """Nobody counts in thousands of seconds."""
    assert output.seconds(value) == shown


@pytest.mark.parametrize(("value", "shown"), [(999, "999 B"), (1500, "1.5 kB"), (2_500_000, "2.5 MB"), (None, "")])
def test_sizes_are_readable(value: int | None, shown: str) -> None:
    """Powers of a thousand, as the SI has them."""
    assert output.size(value) == shown


def _on_terminal(code: str, columns: int) -> str:
    """Run Python whose stdout is a terminal that wide; return what it showed."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=follower,
        env={**os.environ, "COLUMNS": str(columns)},
        cwd=Path(__file__).parents[2],
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


def test_a_table_fits_the_terminal_and_cuts_only_what_may_be_cut() -> None:
    """On 40 columns no line is longer; an id is never cut, a message is, with a sign."""
    code = "from mlops_local.cli import output as o\no.table([o.Column('id', keep=True), 'message'], [('3f2a9c01', 'x' * 200)])"
    lines = _on_terminal(code, 40).splitlines()
    assert all(len(line) <= 40 for line in lines)
    assert "3f2a9c01" in lines[1] and lines[1].endswith("…")


def test_a_table_in_a_pipe_is_left_whole() -> None:
    """`mlops runs | grep` sees everything."""
    code = "from mlops_local.cli import output as o\no.table(['message'], [('x' * 500,)])"
    shown = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "40"},
        cwd=Path(__file__).parents[2],
    ).stdout
    assert "x" * 500 in shown


def test_json_survives_a_stream_that_is_not_utf8() -> None:
    """With an ASCII stdout the same JSON is written with escapes."""
    code = "from mlops_local.cli import output as o\no.items('x', ['é\\udcff日'])"
    shown = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        cwd=Path(__file__).parents[2],
    ).stdout
    assert json.loads(shown)["items"] == ["é\udcff日"]
