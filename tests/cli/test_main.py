from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from mlops_local.cli.main import ALIASES, COMMANDS, SECTIONS

ROOT = Path(__file__).parents[2]
Mlops = Callable[..., "subprocess.CompletedProcess[str]"]


def _child(code: str, environment: dict[str, str], folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _calling(body: str) -> str:
    """A program that is `mlops status` with another body."""
    return (
        "import sys, time\n"
        "from mlops_local.cli import main, reading\n"
        "def body(**options):\n" + "".join(f"    {line}\n" for line in body.splitlines()) + "reading.status.callback = body\n"
        "sys.argv = ['mlops', 'status']\n"
        "main.main()\n"
    )


def test_help_lists_every_command_under_its_section(mlops: Mlops) -> None:
    """`mlops --help` shows each registered command with its line, grouped."""
    shown = mlops("--help")
    assert shown.returncode == 0 and shown.stderr == ""
    for title, entries in SECTIONS.items():
        assert f"{title}:" in shown.stdout
        for name, entry in entries.items():
            assert any(line.split() == [name, *entry.help.split()] for line in shown.stdout.splitlines()), name


def test_the_version_is_printed(mlops: Mlops) -> None:
    """`mlops --version` is one line on stdout."""
    shown = mlops("--version")
    assert shown.returncode == 0 and shown.stdout.startswith("mlops ") and shown.stdout.count("\n") == 1


def test_bare_mlops_outside_a_project_says_how_to_begin(mlops: Mlops) -> None:
    """A newcomer sees two commands that work, and exit code 0."""
    shown = mlops()
    assert shown.returncode == 0
    assert "mlops init" in shown.stdout and "mlops init demo --template flights" in shown.stdout


def test_a_reading_command_without_a_project_says_so_and_how_to_get_one(mlops: Mlops) -> None:
    """No project: exit 2, one message, one hint, nothing on stdout."""
    shown = mlops("status")
    assert shown.returncode == 2 and shown.stdout == ""
    assert shown.stderr.startswith("error: no project in ") and "hint: run `mlops init`" in shown.stderr


def test_an_unknown_command_names_its_neighbour(mlops: Mlops) -> None:
    """A typo gets a suggestion and exit 2."""
    shown = mlops("trian")
    assert (shown.returncode, shown.stdout) == (2, "")
    assert shown.stderr == "error: no such command 'trian'\nhint: did you mean 'train'?\n"


def test_an_unknown_option_names_its_neighbour(mlops: Mlops) -> None:
    """The same for options."""
    shown = mlops("status", "--jso")
    assert shown.returncode == 2 and "--json" in shown.stderr


def test_a_folder_that_does_not_exist_is_a_usage_error(mlops: Mlops) -> None:
    """-C names a folder that is there."""
    shown = mlops("-C", "nowhere", "status")
    assert shown.returncode == 2 and "nowhere" in shown.stderr and "Traceback" not in shown.stderr


def test_json_is_refused_by_a_command_that_has_none(mlops: Mlops) -> None:
    """A global --json is never silently ignored."""
    shown = mlops("--json", "completion", "bash")
    assert shown.returncode == 2 and "does not answer with --json" in shown.stderr


def test_broken_toml_is_one_message_with_its_line(mlops: Mlops, folder: Path) -> None:
    """mlops.toml that is not TOML: exit 2, file and line."""
    (folder / "mlops.toml").write_text("[project]\nname = \n")
    shown = mlops("status")
    assert shown.returncode == 2 and "mlops.toml" in shown.stderr and "line 2" in shown.stderr
    assert "Traceback" not in shown.stderr


def test_every_problem_of_mlops_toml_is_listed(mlops: Mlops, folder: Path) -> None:
    """Two unknown keys are two lines, each with what was meant."""
    (folder / "mlops.toml").write_text("[project]\nnmae = 'x'\n[serve]\nprot = 1\n")
    shown = mlops("status")
    assert shown.returncode == 2
    assert "project.nmae: unknown key, did you mean 'name'?" in shown.stderr
    assert "serve.prot: unknown key, did you mean 'port'?" in shown.stderr


def test_a_bug_of_ours_is_one_line_and_a_traceback_in_the_logs(environment: dict[str, str], folder: Path) -> None:
    """An exception nobody foresaw: exit 70, no traceback on the terminal, the traceback kept."""
    (folder / "mlops.toml").write_text("[project]\n")
    child = _child(_calling("raise ZeroDivisionError('nothing to divide by')"), environment, folder)
    stdout, stderr = child.communicate(timeout=30)
    assert (child.returncode, stdout) == (70, "")
    assert stderr.startswith("error: a bug in mlops: ZeroDivisionError: nothing to divide by\n") and "Traceback" not in stderr
    log = folder / ".mlops" / "logs" / "crash.log"
    assert str(log.relative_to(folder)) in stderr
    assert "ZeroDivisionError: nothing to divide by" in log.read_text() and log.stat().st_mode & 0o077 == 0


def test_a_bug_outside_a_project_still_ends_in_70(environment: dict[str, str], folder: Path) -> None:
    """Without a project there is no log; the way to the traceback is said."""
    child = _child(_calling("raise ZeroDivisionError('x')"), environment, folder)
    _, stderr = child.communicate(timeout=30)
    assert child.returncode == 70 and "-v" in stderr and not (folder / ".mlops").exists()


@pytest.mark.parametrize(("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")])
def test_a_signal_ends_in_its_own_exit_code(
    environment: dict[str, str], folder: Path, number: signal.Signals, code: int, word: str
) -> None:
    """^C is 130, TERM is 143; the command's own clean-up runs, and no traceback is shown."""
    body = "try:\n    print('ready', flush=True)\n    time.sleep(30)\nfinally:\n    print('cleaned', flush=True)"
    child = _child(_calling(body), environment, folder)
    assert child.stdout is not None and child.stdout.readline() == "ready\n"
    child.send_signal(number)
    stdout, stderr = child.communicate(timeout=30)
    assert (child.returncode, stdout) == (code, "cleaned\n")
    assert stderr == f"error: {word}\n"


@pytest.mark.parametrize(("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")])
def test_a_signal_while_the_program_loads_shows_no_traceback(
    environment: dict[str, str], folder: Path, number: signal.Signals, code: int, word: str
) -> None:
    """As `mlops` is installed and as `python -m`: one line and the same exit codes, in the middle of what is imported first."""
    (folder / "click.py").write_text(f"import os, time\nos.kill(os.getpid(), {number})\ntime.sleep(30)\n")
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, function = scripts["mlops"].partition(":")
    for how in (["-c", f"import sys\nfrom {module} import {function}\nsys.exit({function}())"], ["-m", "mlops_local"]):
        paths = os.pathsep.join([str(folder), environment.get("PYTHONPATH", "")])
        child = subprocess.run(
            [sys.executable, *how, "status"],
            env={**environment, "PYTHONPATH": paths},
            cwd=folder,
            capture_output=True,
            text=True,
        )
        assert (child.returncode, child.stdout, child.stderr) == (code, "", f"error: {word}\n")


@pytest.mark.parametrize(("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")])
def test_a_signal_amid_an_import_is_no_bug(
    environment: dict[str, str], folder: Path, number: signal.Signals, code: int, word: str
) -> None:
    """Libraries in the making are left to finish: importlib swallows what is raised there, and C++ aborts."""
    (folder / "late.py").write_text(f"import os\nos.kill(os.getpid(), {number})\nprint('whole', flush=True)\n")
    environment = {**environment, "PYTHONPATH": os.pathsep.join([str(folder), environment.get("PYTHONPATH", "")])}
    stdout, stderr = (child := _child(_calling("import late\ntime.sleep(30)"), environment, folder)).communicate(timeout=60)
    assert (child.returncode, stdout, stderr) == (code, "whole\n", f"error: {word}\n")


@pytest.mark.parametrize(("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")])
def test_a_signal_ends_a_query(environment: dict[str, str], folder: Path, number: signal.Signals, code: int, word: str) -> None:
    """At once, though Python hears of no signal while DuckDB's own threads work for it."""
    (folder / "mlops.toml").write_text('[project]\nname = "late"\n')
    endless = "SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b"
    child = subprocess.Popen(
        [sys.executable, "-m", "mlops_local", "sql", "--timeout", "1000", endless],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    tried = psutil.Process(child.pid)
    while child.poll() is None and sum(tried.cpu_times()[:2]) < 2:  # it is at work
        time.sleep(0.05)
    child.send_signal(number)
    stdout, stderr = child.communicate(timeout=60)
    assert (child.returncode, stdout, stderr) == (code, "", f"error: {word}\n")


def test_a_background_job_stays_deaf_to_the_terminals_interrupt(environment: dict[str, str], folder: Path) -> None:
    """What a shell starts in the background ignores ^C, and goes on doing so."""
    child = subprocess.run(
        [
            "sh",
            "-c",
            f"trap '' INT; exec {sys.executable} -c \"$0\"",
            _calling("import os\nos.kill(os.getpid(), 2)\nprint('there')"),
        ],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert (child.returncode, child.stdout) == (0, "there\n")


def test_a_closed_pipe_is_silent_success(environment: dict[str, str], folder: Path) -> None:
    """`mlops … | head` ends with 0 and says nothing, however much was still to come."""
    child = _child(_calling("for _ in range(100000):\n    print('a line')"), environment, folder)
    assert child.stdout is not None
    child.stdout.readline()
    child.stdout.close()
    stderr = child.stderr.read() if child.stderr else ""
    assert (child.wait(timeout=30), stderr) == (0, "")
    if child.stderr:
        child.stderr.close()


def test_global_options_work_before_and_after_the_command(environment: dict[str, str], folder: Path) -> None:
    """-q, -v, --no-input, --wait and -C mean the same on either side of the command's name."""
    shown = "from mlops_local.cli.context import Settings\n"
    body = "import click\ns = click.get_current_context().obj\nprint(s.quiet, s.verbose, s.no_input, s.wait_s, s.directory)"
    for arguments in (
        ["-q", "-v", "--no-input", "--wait", "0", "-C", ".", "status"],
        ["status", "-qv", "--no-input", "--wait=0", "-C", "."],
    ):
        code = shown + _calling(body).replace("['mlops', 'status']", repr(["mlops", *arguments]))
        child = _child(code, environment, folder)
        stdout, stderr = child.communicate(timeout=30)
        assert (child.returncode, stdout) == (0, "True 1 True 0.0 .\n"), stderr


def test_one_command_line_does_not_silence_the_next(here: Mlops, folder: Path) -> None:
    """-q holds for the line it is written in, also where one process runs several."""
    (folder / "mlops.toml").write_text('[project]\nname = "late"\n')
    command = ["sql", "select 1 as one", "--parquet", "one.parquet"]
    assert here(*command, "-q").stderr == ""
    assert "1 row" in here(*command).stderr


def test_environment_variables_stand_under_flags(environment: dict[str, str], folder: Path) -> None:
    """MLOPS_WAIT counts unless --wait is given."""
    body = "import click\nprint(click.get_current_context().obj.wait_s)"
    for arguments, expected in (
        (["status"], "7.0\n"),
        (["--wait", "2", "status"], "2.0\n"),
        (["status", "--wait", "3"], "3.0\n"),
    ):
        code = _calling(body).replace("['mlops', 'status']", repr(["mlops", *arguments]))
        child = _child(code, {**environment, "MLOPS_WAIT": "7"}, folder)
        assert child.communicate(timeout=30)[0] == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_printed_for_each_shell(mlops: Mlops, shell: str) -> None:
    """The script goes to stdout alone, ready for eval."""
    shown = mlops("completion", shell)
    assert shown.returncode == 0 and "_MLOPS_COMPLETE" in shown.stdout and shown.stderr == ""


def test_completion_for_an_unknown_shell_is_a_usage_error(mlops: Mlops) -> None:
    """What cannot be completed is said, with what can."""
    shown = mlops("completion", env={"SHELL": "/bin/tcsh"})
    assert shown.returncode == 2 and "bash, fish, zsh" in shown.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [("mlops st", {"status", "stop"}), ("mlops comp", {"compare", "completion"}), ("mlops status --js", {"--json"})],
)
def test_completion_answers_what_fits(mlops: Mlops, words: str, expected: set[str]) -> None:
    """Commands and options complete, from any shell that asks as bash does."""
    shown = mlops(env={"_MLOPS_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))})
    assert {line.partition(",")[2] for line in shown.stdout.splitlines()} == expected


def test_a_group_without_a_member_shows_its_help(mlops: Mlops) -> None:
    """`mlops db` alone: its members and exit 2, on stderr, as it stands."""
    shown = mlops("db")
    assert (shown.returncode, shown.stdout) == (2, "")
    assert shown.stderr.startswith("Usage: mlops db") and "rebuild" in shown.stderr and "error:" not in shown.stderr


def test_every_alias_means_a_command() -> None:
    """An alias never dangles and never hides a command."""
    assert set(ALIASES.values()) <= set(COMMANDS) and not set(ALIASES) & set(COMMANDS)


def test_names_that_are_not_utf8_are_shown_not_fatal(mlops: Mlops, folder: Path) -> None:
    """A folder name that is no UTF-8 and a C locale: the message still arrives."""
    odd = folder / os.fsdecode(b"caf\xe9")
    odd.mkdir()
    shown = subprocess.run(
        [sys.executable, "-m", "mlops_local", "status"],
        cwd=odd,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2]), "LC_ALL": "C", "HOME": str(folder)},
        capture_output=True,
        timeout=30,
    )
    assert shown.returncode == 2 and b"error: no project in" in shown.stderr and b"Traceback" not in shown.stderr


def test_a_call_for_another_folder_is_as_if_started_there(mlops: Mlops, folder: Path) -> None:
    """A command runs in that folder, and what it writes to or reads from by a relative name is there."""
    (folder / "sub").mkdir()
    (folder / "sub" / "mlops.toml").write_text("[project]\nname = 'late'\n")
    (folder / "sub" / "hello.py").write_text("print('hello')\n")
    done = mlops("-C", "sub", "run", sys.executable, "hello.py")
    assert done.returncode == 0 and done.stdout == "hello\n", done.stderr
    done = mlops("-C", "sub", "pack", "all.mlops", "--all")
    assert done.returncode == 0 and (folder / "sub" / "all.mlops").is_file(), done.stderr
    done = mlops("-C", "sub", "sql", "from run", "--parquet", "runs.parquet")
    assert done.returncode == 0 and (folder / "sub" / "runs.parquet").is_file(), done.stderr


def test_a_command_may_save_what_it_has_after_an_interrupt(environment: dict[str, str], folder: Path) -> None:
    """^C in the terminal reaches it and us; it is not ended while it puts its things away."""
    (folder / "mlops.toml").write_text("[project]\nname = 'late'\n")
    (folder / "train.py").write_text(
        "import time\ntry:\n    print('ready', flush=True)\n    time.sleep(30)\n"
        "finally:\n    time.sleep(0.3)\n    print('saved', flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-m", "mlops_local", "run", sys.executable, "train.py"],
        cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True,
    ) as child:  # fmt: skip
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
        os.killpg(child.pid, signal.SIGINT)
        assert child.communicate(timeout=30)[0] == "saved\n"
    assert child.returncode == 130
