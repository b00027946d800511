"""`mlops watch`: parse, call the service, show each change's line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from mlops_local.cli.context import Settings

if TYPE_CHECKING:
    from mlops_local.domain.progress import Emit, Progress

_SIGNS = {
    "smoke": ("✓", "+", ""),
    "done": ("✓", "+", "done"),
    "nothing": ("=", "=", ""),
    "failed": ("✗", "x", "failed"),
    "fail": ("✗", "x", "failed"),
    "inconclusive": ("?", "?", "warning"),
    "broken": ("!", "!", "warning"),
}
"""State, or a verdict that is no pass -> sign, sign where the terminal has only ASCII, style. Other states go on."""
_GOES_ON = ("…", "~", "")
_SHOWN = frozenset({"step_started", "step_ended", "warning", "served"})
"""What of a run's talk is shown without -v: the line a change ends in says the rest."""
_STREAMED = frozenset({"step_started", "step_ended", "warning", "served"})


@click.command(epilog="\b\nExamples:\n  mlops watch\n  mlops watch gbm --smoke\n  mlops watch --serve\n  mlops watch --jsonl")
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@click.option("--serve", is_flag=True, help="Also serve the champion; a new one is swapped in.")
@click.option("-p", "--port", type=click.IntRange(0, 65535), help="Port of the server (with --serve).")
@click.option("--jsonl", is_flag=True, help="Stream what happens as JSON lines on stdout.")
@click.option("--poll", is_flag=True, help="Look each second: for network folders, where the system does not tell.")
@click.option("--smoke", is_flag=True, help="Run on 5 % of the rows first, on all when no save came for 3 seconds.")
@click.pass_obj
def watch(
    settings: Settings, targets: tuple[str, ...], serve: bool, port: int | None, jsonl: bool, poll: bool, smoke: bool
) -> None:
    """Train again at each save, as far as needed, and say in one line what it did.

    Watches the sources' files, the pipeline, its modules and mlops.toml. A save during a run ends that run once nothing it does
    is wanted any more; an edit that means nothing says so. Ends with ^C.
    """
    import threading

    from mlops_local.services.watch import watch as run

    if port is not None and not serve:
        raise click.UsageError("--port needs --serve.")
    options = None if not serve else ("--port", str(port)) if port is not None else ()
    with settings.progress() as show:
        emit = _stream if jsonl else _lines(show)
        run(settings.project(), targets, serve=options, polling=poll, smoke=smoke, emit=emit, stop=threading.Event())


def _lines(show: Emit) -> Emit:
    """Each change's line to stdout with the time, failures with the user's traceback; the rest is talk."""
    from mlops_local.cli import diagnostics, output

    def emit(event: Progress) -> None:
        if event.kind != "watch":
            if event.kind == "step_ended" and not diagnostics.verbose():
                diagnostics.settle()
            elif event.kind in _SHOWN or diagnostics.verbose():
                show(event)
            return
        diagnostics.settle()
        data = event.data
        if data.get("traceback"):
            diagnostics.say(str(data["traceback"]).rstrip())
        for line in _fitted(data["rows"], _outcome(data), output.terminal_width()):
            output.raw(line + "\n")
        output.flush()
        _explain(data)

    return emit


def _outcome(data: Any) -> str:
    """The state; of a run that made a version which did not pass, the worst verdict."""
    verdicts = [model["verdict"] for model in data.get("models", ())] if data["state"] == "done" else []
    return next((verdict for verdict in ("fail", "inconclusive") if verdict in verdicts), str(data["state"]))


def _explain(data: Any) -> None:
    """What belongs under the line: gates that did not pass; what is wrong, and what to do."""
    from mlops_local.cli import diagnostics

    for model in data.get("models", ()) if data["state"] == "done" else ():
        for gate in model["failed"]:
            note = f" ({gate['note']})" if gate["note"] else ""
            difference = f", {gate['difference']:+.4f}" if gate["difference"] is not None else ""
            diagnostics.say(f"           {gate['metric']}, {gate['rule']}: {gate['verdict']}{difference}{note}")
    for problem in list(data.get("problems", ()))[1:]:
        diagnostics.say(f"           {problem}")
    if data.get("state") == "failed":
        if data.get("hint"):
            diagnostics.say(f"hint: {data['hint']}")
        diagnostics.say("waiting for the next save")


def _fitted(rows: Sequence[Sequence[str]], state: str, width: int | None) -> list[str]:
    """The rows with time and sign: one line where there is room or no terminal, else broken between their parts."""
    from datetime import datetime

    from mlops_local.cli import diagnostics, output

    sign, plain, style = _SIGNS.get(state, _GOES_ON)
    shown = [[output.escape(part) for part in row] for row in rows]
    joint, sign = (" · ", sign) if output.unicode() else (" - ", plain)
    head = f"{datetime.now():%H:%M:%S} "
    whole = joint.join(part for row in shown for part in row)
    room = (width or 0) - len(head) - 2
    lines = [whole] if width is None or len(whole) <= room else [line for row in shown for line in _broken(row, joint, room)]
    first = f"{head}{diagnostics.painted(style, sign, sys.stdout) if style else sign} {lines[0]}"
    return [first, *(" " * (len(head) + 2) + line for line in lines[1:])]


def _broken(row: Sequence[str], joint: str, room: int) -> list[str]:
    lines = [""]
    for part in row:
        longer = lines[-1] + joint + part if lines[-1] else part
        if lines[-1] and len(longer) > room:
            lines.append(part)
        else:
            lines[-1] = longer
    return lines


def _stream(event: Progress) -> None:
    """One JSON line for each thing that happened."""
    from datetime import datetime, timezone

    from mlops_local.cli import output

    if event.kind != "watch" and event.kind not in _STREAMED:
        return
    data = {name: value for name, value in event.data.items() if name not in ("rows", "state", "report")}
    kind = event.data.get("state", "") if event.kind == "watch" else event.kind
    state = {"state": event.data["state"]} if event.kind == "step_ended" and "state" in event.data else {}
    step = {"step": event.step} if event.step else {}
    at = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    output.jsonl("watch", {"at": at, "event": kind, "text": event.text, **step, **state, **data})
    output.flush()
