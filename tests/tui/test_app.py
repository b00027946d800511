"""The program around the screens: keys, palette, help, a store in use by somebody else, and its end."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

import pytest

from mlops_local.tui.app import MlopsApp
from mlops_local.tui.screens.help import HelpScreen
from mlops_local.tui.screens.run import RunScreen
from mlops_local.tui.widgets.bar import Tab
from mlops_local.tui.widgets.grid import Grid
from tests.tui.conftest import BIG, NARROW, Tale, seen, shows, until

ROOT = Path(__file__).resolve().parents[2]
HOLD = """
import sys
from mlops_local.store.layout import Layout
from mlops_local.store import lock
from pathlib import Path
with lock.hold(Layout(Path(sys.argv[1])).store_lock, command="mlops import-everything"):
    print("held", flush=True)
    sys.stdin.readline()
"""


async def test_keys_and_clicks_go_to_the_three_screens(trained: Tale) -> None:
    """h, r and m work everywhere; so does a click on a tab; the tab one is on stands out."""
    app = MlopsApp(trained.project)
    async with app.run_test(size=NARROW) as pilot:
        for key, text in (("r", "3 runs"), ("m", "★  delay@1"), ("h", "newest runs")):
            await pilot.press(key)
            await shows(pilot, text)
        await pilot.click(app.screen.query(Tab)[1])
        await shows(pilot, "3 runs")
        assert [str(tab.render()) for tab in app.screen.query(".tab.-active")] == ["r Runs"]


async def test_help_shows_every_key_and_mark(trained: Tale) -> None:
    """`?` opens a page that can be scrolled to its end, also on the smallest screen; any way out closes it."""
    app = MlopsApp(trained.project)
    async with app.run_test(size=NARROW) as pilot:
        await pilot.press("question_mark")
        await shows(pilot, "command palette")
        assert isinstance(app.screen, HelpScreen)
        await pilot.press("end")
        await shows(pilot, "to be compared")
        await pilot.press("escape")
        await shows(pilot, "newest runs")


async def test_the_palette_finds_runs_and_versions(trained: Tale) -> None:
    """ctrl+p, a few letters of a run's name and Enter open that run."""
    app = MlopsApp(trained.project)
    async with app.run_test(size=NARROW) as pilot:
        await shows(pilot, "newest runs", "brave-heron")
        await pilot.press("ctrl+p", *"heron")
        await shows(pilot, "Run brave-heron")
        await pilot.press("down", "enter")
        screen = await shows(pilot, "✓ done  brave-heron")
        assert isinstance(app.screen, RunScreen) and "newest runs" not in screen


async def test_a_tiny_terminal_is_no_reason_to_fall(trained: Tale) -> None:
    """Every screen opens and a window may be made larger and smaller meanwhile."""
    size = (20, 5)
    app = MlopsApp(trained.project)
    async with app.run_test(size=size) as pilot:
        for key in ("r", "enter", "escape", "m", "p", "escape", "h"):
            await pilot.press(key)
            await pilot.pause()
        await pilot.resize_terminal(*BIG)
        await shows(pilot, "newest runs", "sad-mole")
        await pilot.resize_terminal(*size)
        await pilot.pause()
        assert app.is_running


async def test_no_color_draws_without_colours(trained: Tale, monkeypatch: pytest.MonkeyPatch) -> None:
    """With NO_COLOR set no cell has a colour, and the cursor is still to be seen."""
    monkeypatch.setenv("NO_COLOR", "1")
    app = MlopsApp(trained.project)
    async with app.run_test(size=NARROW) as pilot:
        await pilot.press("r")
        await shows(pilot, "3 runs", "sad-mole")
        strips = app.screen._compositor.render_strips(app.screen.size)
        styles = [segment.style for strip in strips for segment in strip if segment.style and segment.text.strip()]
        assert [style for style in styles if (style.color and not style.color.is_default)] == []
        line = next(strip for strip in strips if "sad-mole" in "".join(segment.text for segment in strip))
        assert any(segment.style and segment.style.reverse for segment in line)


async def test_a_store_in_use_stops_nothing_but_the_answers(trained: Tale) -> None:
    """While another process holds the store keys still switch screens and the bar names who holds it; then it goes on."""
    app = MlopsApp(trained.project)
    async with app.run_test(size=NARROW) as pilot:
        await shows(pilot, "newest runs", "sad-mole")
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(trained.project.root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        with holder:
            assert holder.stdin and holder.stdout
            try:
                await asyncio.to_thread(holder.stdout.readline)
                await pilot.press("r")
                await until(pilot, lambda: "waiting for mlops import-every" in seen(app).splitlines()[0])
                await pilot.press("m")
                await shows(pilot, "★  delay@1")
                await pilot.press("h")
                await shows(pilot, "newest runs", "sad-mole")
                await pilot.press("r")
                await until(pilot, lambda: app.current_mode == "runs" and "waiting for mlops" in seen(app))
            finally:
                holder.stdin.close()
        await shows(pilot, "3 runs", "brave-heron")
        await until(pilot, lambda: "waiting for" not in seen(app))


def test_q_quits_and_leaves_no_thread(trained: Tale) -> None:
    """After `q` the loop ends and every thread that asked the store is gone."""
    before = set(threading.enumerate())

    async def scenario() -> int | None:
        app = MlopsApp(trained.project)
        async with app.run_test(size=NARROW) as pilot:
            await shows(pilot, "newest runs", "sad-mole")
            await pilot.press("r", "m", "q")
        return app.return_code

    assert asyncio.run(scenario()) == 0
    limit = time.monotonic() + 10
    while set(threading.enumerate()) - before and time.monotonic() < limit:
        threading.Event().wait(0.02)
    assert set(threading.enumerate()) - before == set()


def test_the_real_program_in_a_real_terminal_quits_at_once(trained: Tale) -> None:
    """`mlops ui` draws the project in a terminal, ends with 0 at `q` and gives the terminal back as it was."""
    trained.project.store.close()
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    before = termios.tcgetattr(slave)
    process = subprocess.Popen(
        [sys.executable, "-m", "mlops_local", "-C", str(trained.project.root), "ui"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "LANG": "C.UTF-8"},
    )
    drawn = b""
    pressed = False
    limit = time.monotonic() + 30
    try:
        while process.poll() is None and time.monotonic() < limit:
            if select.select([master], [], [], 0.05)[0]:
                drawn += os.read(master, 65536)
            if not pressed and b"sad-mole" in drawn:
                os.write(master, b"q")
                pressed = True
        assert process.poll() == 0, drawn[-2000:]
        assert b"Traceback" not in drawn
        assert termios.tcgetattr(slave) == before
    finally:
        process.kill()
        process.wait()
        os.close(master)
        os.close(slave)


def test_without_a_terminal_it_says_what_to_use(trained: Tale) -> None:
    """`mlops ui` in a pipe is a usage error that names the commands that print the same."""
    ended = subprocess.run(
        [sys.executable, "-m", "mlops_local", "-C", str(trained.project.root), "ui"],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert ended.returncode == 2
    assert "mlops status" in ended.stderr


async def test_the_grid_answers_a_click(trained: Tale) -> None:
    """One click moves the cursor, two open the run."""
    app = MlopsApp(trained.project)
    async with app.run_test(size=NARROW) as pilot:
        await pilot.press("r")
        await shows(pilot, "3 runs", "calm-otter")
        grid = app.screen.query_one(Grid)
        await pilot.click(grid, offset=(10, 3))
        assert grid.cursor == 2
        await pilot.click(grid, offset=(10, 3), times=2)
        await shows(pilot, "✓ done  calm-otter")
