"""How the reading commands look to a person: domain values in, lines on stdout out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from mlops_local.cli import curves, listings, output, snapshots
from mlops_local.cli.output import Column

if TYPE_CHECKING:
    from mlops_local.domain.assets import ModelVersion
    from mlops_local.domain.runs import StepRun
    from mlops_local.services.audit import Audit
    from mlops_local.services.compare import Comparison, Row
    from mlops_local.services.history import RunDetail, VersionDetail
    from mlops_local.services.status import Champion, Status

_PICTURE = 10
"""Cells of a curve beside a number."""
_TITLES = {"params": "parameters", "env": "packages"}


def welcome() -> None:
    """What a person sees who types `mlops` outside a project."""
    output.line("mlops: the whole machine-learning loop on one machine.\n")
    output.line("No project here yet. Two commands to begin:\n")
    output.line("  mlops init demo --template flights   a working project on real data, in demo/")
    output.line("  mlops init                           make this folder a project")
    output.line("\n`mlops --help` lists every command.")


def status(answer: Status) -> None:
    """The project on one page."""
    for champion in answer.champions:
        output.line(f"{answer.project}: {_champion(champion)}")
        if champion.served is not None:
            served = champion.served
            state = f"served on port {served.port}, pid {served.pid}" if served.alive else "the server is gone"
            output.line(f"  {served.version} {state}, since {output.local_time(served.since)}")
    if not answer.champions:
        output.line(f"{answer.project}: no model yet")
    if answer.interpreter:
        output.line(f"code runs in {answer.interpreter}")
    if answer.attention:
        output.line("\nNeeds attention")
        _commands([(item.text, item.command) for item in answer.attention])
    if answer.runs:
        more = f", newest {len(answer.runs)}" if answer.total_runs > len(answer.runs) else ""
        output.line(f"\nRuns ({answer.total_runs}{more})")
        listings.runs(answer.runs)
    output.line("\nNext")
    width = max(len(item.command) for item in answer.next)
    for item in answer.next:
        output.line(f"  {item.command:<{width}}  {item.why}")


def _champion(champion: Champion) -> str:
    if not champion.version:
        return f"{champion.model} has no champion"
    return f"{champion.version} is the champion, {champion.metric} {interval(champion.value, champion.low, champion.high)}"


def _commands(lines: Sequence[tuple[str, str]]) -> None:
    for text, command in lines:
        output.line(f"  ! {text}\n    {command}")


def interval(value: float | None, low: float | None, high: float | None) -> str:
    """`0.7213 [0.652, 0.780]`."""
    if value is None:
        return ""
    shown = output.decimal(value)
    return f"{shown} [{low:.3f}, {high:.3f}]" if low is not None and high is not None else shown


def show(kind: str, answer: Any) -> None:
    """One thing in full."""
    page: dict[str, Callable[[Any], None]] = {"run": _run, "version": _version, "snapshot": snapshots.show}
    page[kind](answer)


def _run(detail: RunDetail) -> None:
    run = detail.run
    output.pairs(
        [
            ("run", f"{run.short} {run.name}"),
            ("id", run.id),
            ("kind", run.kind),
            ("state", run.state.value + (" (some points were lost)" if run.incomplete else "")),
            ("error", run.error),
            ("message", run.message),
            ("started", output.local_time(run.started)),
            ("took", output.seconds(run.seconds)),
            ("commit", run.commit[:10] + (" and uncommitted changes" if run.dirty else "") if run.commit else ""),
            ("python", " of ".join(filter(None, (detail.environment["python"], detail.environment["interpreter"])))),
            ("targets", ", ".join(run.targets)),
            ("versions", ", ".join(version.id for version in detail.versions)),
            ("data", ", ".join(f"{source} {identifier[:8]}" for source, identifier in detail.snapshots.items())),
            ("tags", ", ".join(f"{key}={value}" for key, value in detail.tags.items())),
            *(("note", note) for note in detail.notes),
        ]
    )
    intervals = {key: detail.intervals.get(key, (None, None)) for key in run.metrics}
    _section("Metrics", [(key, interval(value, *intervals[key])) for key, value in run.metrics.items()])
    if detail.curves:
        output.line("\nCurves")
        curves.table(detail.curves)
    if detail.findings:
        output.line("\nFindings")
        snapshots.findings(detail.findings, indent="  ")
    _section("Parameters", [(key, output.given(value)) for key, value in run.params.items()])
    if detail.steps:
        output.line("\nSteps")
        columns = [
            Column("step", keep=True),
            Column("state", keep=True),
            Column("took", right=True, keep=True),
            Column("cpu", right=True, keep=True),
            Column("memory", right=True, keep=True),
            Column("tries", right=True),
            Column("threads", right=True),
            Column("because"),
        ]
        output.table(columns, [_step(step) for step in detail.steps])
    if detail.artifacts:
        output.line("\nFiles")
        columns = [Column("path"), Column("size", right=True), Column("object", keep=True)]
        output.table(columns, [(item.path, output.size(item.bytes), item.object[:16]) for item in detail.artifacts])


def _step(step: StepRun) -> tuple[Any, ...]:
    return (
        step.name,
        step.state,
        output.seconds(step.seconds),
        output.seconds(step.cpu_seconds),
        output.size(step.peak_bytes),
        step.attempts,
        "all" if step.threads == 0 else step.threads,
        step.error or step.reason,
    )


def _section(title: str, values: Iterable[tuple[str, Any]]) -> None:
    listed = sorted(values)
    if listed:
        output.line(f"\n{title}")
        output.pairs([(f"  {name}", value) for name, value in listed])


def _version(detail: VersionDetail) -> None:
    version: ModelVersion = detail.version
    output.pairs(
        [
            ("version", version.id),
            ("is", ", ".join([version.state, *detail.aliases])),
            ("candidate", version.candidate),
            (version.metric, interval(version.value, version.low, version.high)),
            ("made", output.local_time(version.created)),
            *([("note", version.note)] if version.note else []),
            ("run", version.run[16:24]),
            ("bundle", version.bundle_hash[:16]),
            ("data", ", ".join(f"{source} {identifier[:8]}" for source, identifier in version.snapshots.items())),
        ]
    )
    _section("Metrics", version.metrics.items())
    if detail.verdict is not None:
        against = f" against {detail.verdict.baseline}" if detail.verdict.baseline else ""
        output.line(f"\nGates{against}: {detail.verdict.verdict}")
        output.table(
            [Column("metric"), Column("rule"), Column("verdict", keep=True), Column("difference", right=True), Column("note")],
            [
                (gate.metric, gate.rule, gate.verdict, _signed(gate.difference, gate.low, gate.high), gate.note)
                for gate in detail.verdict.gates
            ],
        )


def _signed(difference: float | None, low: float | None, high: float | None) -> str:
    if difference is None:
        return ""
    return f"{difference:+.4f}" + (f" [{low:+.4f}, {high:+.4f}]" if low is not None and high is not None else "")


def comparison(answer: Comparison, *, everything: bool) -> None:
    """What differs, section by section; what is equal only on request."""
    labels = [subject.label for subject in answer.subjects]
    output.line(" → ".join(labels))
    for name, rows in answer.sections.items():
        shown = [row for row in rows if everything or row.differs]
        title = _TITLES.get(name, name).capitalize()
        if not shown:
            output.line(f"\n{title}: {'the same' if rows else 'none'}")
            continue
        output.line(f"\n{title}")
        difference = [Column("difference", right=True, keep=True)] if name == "metrics" else []
        columns = [Column(""), *(Column(label, right=name == "metrics") for label in labels), *difference]
        drawn = answer.curves if name == "metrics" else {}
        write = output.given if name == "params" else output.text
        output.table(columns, [_compared(row, write, bool(difference), drawn.get(row.name, ())) for row in shown])
    if answer.verdict is not None:
        output.line(f"\nVerdict on {answer.verdict.version} against {answer.verdict.baseline}: {answer.verdict.verdict}")
    for note in answer.notes:
        output.line(f"\nNote: {note}")


def _compared(row: Row, write: Callable[[Any], str], difference: bool, drawn: Sequence[Sequence[float]]) -> list[Any]:
    values = ["–" if value is None else write(value) for value in row.values]
    finite = [value for curve in drawn for value in curve if math.isfinite(value)]
    if finite:  # all on one scale, so that they compare
        pictures = [curves.spark(curve, _PICTURE, low=min(finite), high=max(finite)) for curve in drawn]
        values = [f"{picture:>{_PICTURE}} {value:>8}" for picture, value in zip(pictures, values, strict=True)]
    return [f"  {row.name}", *values, *([_signed(row.difference, None, None)] if difference else [])]


def audit(answer: Audit) -> None:
    """Decisions, one line each."""
    columns = [
        Column("seq", right=True, keep=True),
        Column("when", keep=True),
        Column("who"),
        Column("what", keep=True),
        Column("about", keep=True),
        Column("from"),
        Column("to"),
        Column("because"),
    ]
    rows = [
        (
            line.seq,
            output.local_time(str(line.at)),
            f"{line.actor}@{line.host}",
            line.kind,
            line.subject,
            line.expect,
            line.value,
            line.reason,
        )
        for line in answer.lines
    ]
    output.table(columns, rows, empty="no decision yet")
    if answer.total > len(answer.lines):
        output.line(f"the newest {len(answer.lines)} of {answer.total}; --limit 0 shows all")
    if answer.lines and not answer.problems:
        output.line("the chain is whole")
