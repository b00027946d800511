"""The `mlops` command: the table of commands, the global options and the one place where an error becomes an exit code.

At start only click is imported. A command is a line in the table below with static help; its module loads when it is called,
so `mlops --help` costs what `import click` costs.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
import threading
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import click

from mlops_local import __version__
from mlops_local.cli import diagnostics, ending
from mlops_local.cli.context import JsonFlag, Settings, prepare, shared_options, takes_json
from mlops_local.cli.diagnostics import ExitCode
from mlops_local.cli.ending import Terminated
from mlops_local.domain.errors import MlopsError


class Entry(NamedTuple):
    """One command: where its click command is, and the line `mlops --help` shows."""

    target: str
    help: str


SECTIONS: dict[str, dict[str, Entry]] = {
    "Daily": {
        "init": Entry("projects:init", "Make a project here, or from a template."),
        "train": Entry("training:train", "Run what an edit affects, gate the result."),
        "watch": Entry("watching:watch", "Train again at each save, as far as needed."),
        "serve": Entry("serving:serve", "Answer predictions over HTTP."),
        "run": Entry("tracking:run", "Track any command as a run."),
        "stop": Entry("tracking:stop", "End a run, or have it keep what it has."),
        "status": Entry("reading:status", "What is served, what ran, what needs you."),
        "ui": Entry("interface:ui", "Open the terminal interface."),
    },
    "Data": {
        "data": Entry("projects:data", "Sources and their snapshots."),
        "sql": Entry("searching:sql", "One SELECT over everything in the project."),
        "schema": Entry("searching:schema", "The tables and columns `sql` can see."),
    },
    "Models": {
        "model": Entry("models:model", "Versions: list, show, promote, roll back."),
        "check": Entry("guarding:check", "Would this code regress? For hooks and CI."),
        "hook": Entry("guarding:hook", "The git pre-commit hook."),
    },
    "Inspect": {
        "plan": Entry("planning:plan", "What would run, and why; runs nothing."),
        "shell": Entry("foreground:shell", "Python with a step's inputs at hand."),
        "why": Entry("planning:why", "Why one step would run."),
        "dag": Entry("planning:dag", "The graph of steps, with their states."),
        "runs": Entry("searching:runs", "List runs, filtered and sorted."),
        "show": Entry("reading:show", "One run, version or snapshot in full."),
        "compare": Entry("reading:compare", "What differs between runs or versions."),
        "tag": Entry("life:tag", "Set, take off or show a run's tags."),
        "note": Entry("life:note", "Add a note to a run."),
        "rename": Entry("life:rename", "Give a run another name."),
        "rm": Entry("life:rm", "Remove runs; --undo takes it back."),
        "export": Entry("searching:export", "Runs as Parquet, CSV or JSON files."),
        "logs": Entry("reading:logs", "What a run's steps printed."),
        "lineage": Entry("tracing:lineage", "What a thing was made from, and what came of it."),
        "impact": Entry("tracing:impact", "Which models saw the rows of a file."),
        "audit": Entry("reading:audit", "Who decided what, from the ledger."),
    },
    "Share": {
        "push": Entry("sharing:push", "Add data, champion and verdict to a folder."),
        "pull": Entry("sharing:pull", "Take them from it; a clone has the same champion."),
        "pack": Entry("sharing:pack", "Runs and versions as one file."),
        "unpack": Entry("sharing:unpack", "Take in, or list, what such a file holds."),
        "checkout": Entry("sharing:checkout", "A run's code, data and packages in a new folder."),
    },
    "Maintain": {
        "doctor": Entry("maintaining:doctor", "Check the store; --fix repairs it."),
        "gc": Entry("sharing:gc", "What no run, version or snapshot needs; --yes removes it."),
        "db": Entry("maintaining:db", "The project's database file."),
        "completion": Entry("reading:completion", "Tab completion for your shell."),
    },
}
ALIASES = {"diff": "compare"}
COMMANDS = {name: entry for section in SECTIONS.values() for name, entry in section.items()}


class LazyGroup(click.Group):
    """Commands by section, each imported when it is called."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Begin one command line: it talks as it says itself, whatever another in this process said before."""
        diagnostics.begin()
        return super().make_context(info_name, args, parent, **extra)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        entry = COMMANDS.get(ALIASES.get(cmd_name, cmd_name))
        if entry is None:
            return None
        module, _, attribute = entry.target.partition(":")
        command: click.Command = getattr(import_module(f"mlops_local.cli.{module}"), attribute)
        return prepare(command)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command to call; an unknown one names its neighbours."""
        try:
            name, command, rest = super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:
            raise click.NoSuchCommand(error.command_name, possibilities=[*COMMANDS, *ALIASES], ctx=ctx) from None
        if command is not None and ctx.ensure_object(Settings).json and not takes_json(command):
            raise click.UsageError(f"mlops {name} does not answer with --json.", ctx)
        return name, command, rest

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each section from the static table: nothing is imported to show help."""
        width = max(map(len, COMMANDS))
        for title, entries in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), entry.help) for name, entry in entries.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        """Complete command names from the static table, options as click does."""
        from click.shell_completion import CompletionItem

        names = [CompletionItem(name, help=entry.help) for name, entry in COMMANDS.items() if name.startswith(incomplete)]
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]


def _version(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        from mlops_local.cli import output

        output.line(f"mlops {__version__}")
        context.exit()


def _bare(context: click.Context) -> None:
    if context.invoked_subcommand is None:
        from mlops_local.cli import reading

        reading.home(context.ensure_object(Settings))


cli = LazyGroup(
    name="mlops",
    invoke_without_command=True,
    callback=click.pass_context(_bare),
    params=[
        *shared_options(hidden=False),
        JsonFlag(["--json", "as_json"]),
        click.Option(
            ["--version"], is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Print the version."
        ),
    ],
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "MLOPS"},
    help=(
        "The whole machine-learning loop on one machine.\n\n"
        "Version the data, run the pipeline, track and compare runs, gate the model, serve it, watch it, train it again. "
        "No server, no account, no daemon.\n\n"
        "\b\n"
        "Begin:\n"
        "  mlops init demo --template flights\n"
        "  mlops -C demo train"
    ),
    epilog="The options above may also follow the command. Help on one command: mlops COMMAND --help",
)


def main() -> NoReturn:
    """Run the command line and end the process with its exit code."""
    # Most of a short command's life is importing, which makes no garbage: collecting it cost 5 % of `mlops status`.
    gc.set_threshold(50_000, 20, 20)
    _be_lenient(sys.stdout)
    code = _listening(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_stdout()
    _leave(code)


def _listening(arguments: list[str]) -> int:
    """Run one command line so that ^C and SIGTERM are seen by it, and by nothing after it."""
    try:
        ending.in_order()
        code = run(arguments)
        ending.at_once()
        return code
    except KeyboardInterrupt as error:  # a second one, while the first was being said
        ending.at_once()
        return ExitCode.TERMINATED if isinstance(error, Terminated) else ExitCode.INTERRUPTED


def _leave(code: int) -> NoReturn:
    """End at once: taking a hundred modules apart in order cost 20 ms of a command's 200. Exit handlers still run."""
    if threading.active_count() > 1:
        sys.exit(code)
    atexit._run_exitfuncs()
    with suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def run(arguments: list[str]) -> int:
    """Run one command line; every way it can end is an exit code here and nowhere else."""
    settings = Settings()
    try:
        if "_MLOPS_COMPLETE" in os.environ:
            return _complete()
        with cli.make_context("mlops", arguments, obj=settings) as context:
            cli.invoke(context)
        return ExitCode.DONE
    except click.exceptions.Exit as error:
        return error.exit_code
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else ExitCode.DONE if error.code is None else ExitCode.FAILED
    except click.ClickException as error:
        return _usage(error)
    except MlopsError as error:
        return _known(error)
    except (KeyboardInterrupt, click.Abort) as error:
        return _interrupted(type(error))
    except BrokenPipeError:
        _drop_stdout()
        return ExitCode.DONE
    except Exception as error:  # noqa: BLE001  (the last line of defence: what comes here is our bug)
        return _interrupted(kind) if (kind := ending.meant(error)) else _bug(error, settings.directory)


def _interrupted(kind: type[BaseException]) -> int:
    terminated = kind is Terminated
    diagnostics.error("terminated" if terminated else "interrupted")
    return ExitCode.TERMINATED if terminated else ExitCode.INTERRUPTED


def _complete() -> int:
    from click.shell_completion import shell_complete

    return shell_complete(cli, {}, "mlops", "_MLOPS_COMPLETE", os.environ["_MLOPS_COMPLETE"])


def _usage(error: click.ClickException) -> int:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        diagnostics.plain(error.message)
        return error.exit_code
    near = getattr(error, "possibilities", None)
    context = getattr(error, "ctx", None)
    if near:
        hint = "did you mean " + " or ".join(f"'{name}'" for name in near) + "?"
    elif context is not None:
        hint = f"`{context.command_path} --help` shows what it takes"
    else:
        hint = ""
    message = " ".join((error.message if near else error.format_message()).split())  # click lists choices on lines of their own
    diagnostics.error(message[:1].lower() + message[1:].rstrip("."), hint=hint)
    return error.exit_code


def _known(error: MlopsError) -> int:
    diagnostics.error(error.message, hint=error.hint, detail=getattr(error, "traceback", ""), more=error.problems[1:])
    if diagnostics.verbose() > 1:
        import traceback

        diagnostics.say("".join(traceback.format_exception(error)))
    return error.exit_code


def _bug(error: Exception, directory: Path) -> int:
    import traceback

    from mlops_local.services import crash

    text = "".join(traceback.format_exception(error))
    place = crash.record(directory, text, version=__version__)
    if diagnostics.verbose():
        diagnostics.say(text)
    summary = (str(error).splitlines() or [""])[0]
    diagnostics.error(
        f"a bug in mlops: {type(error).__name__}: {summary}".rstrip(": "),
        hint=f"the traceback is in {place}; please report it" if place else "run again with -v to see the traceback",
    )
    return ExitCode.BUG


def _drop_stdout() -> None:
    """The reader is gone: let the interpreter flush into nothing instead of complaining at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def _be_lenient(stream: Any) -> None:
    """File names that are not UTF-8 and terminals that are not either must not end a command."""
    utf8 = (stream.encoding or "").lower().replace("-", "") == "utf8"
    stream.reconfigure(errors="surrogateescape" if utf8 else "backslashreplace")
