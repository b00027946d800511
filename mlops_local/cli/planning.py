"""`mlops plan`, `mlops why` and `mlops dag`: what would run, what is behind it, and the graph it belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mlops_local.cli.context import Settings, json_option
from mlops_local.cli.parameters import set_option

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlops_local.domain.plan import Cause, Dag, Decision, Node, Plan, Reason

STYLES = {"fresh": "done", "stale": "warning", "blocked": "error"}


@click.command(epilog="\b\nExamples:\n  mlops plan\n  mlops plan gbm --json\n  mlops plan -S gbm.num_leaves=31")
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@set_option
@json_option
@click.pass_obj
def plan(settings: Settings, targets: tuple[str, ...], params: dict[str, str]) -> None:
    """Show each step fresh, stale or blocked, with the reasons and the time it is likely to take. Runs nothing."""
    from mlops_local.cli import output
    from mlops_local.services import planning

    with settings.progress() as emit:
        made = planning.plan(settings.project(), targets, params=params, emit=emit)
    if settings.json:
        output.items("plan", [decision_fields(decision) for decision in made.decisions], seconds=made.seconds)
    else:
        show_plan(made)


def decision_fields(decision: Decision) -> dict[str, Any]:
    """A decision as plan items have it."""
    return {
        "name": decision.name,
        "state": decision.state,
        "reasons": [_reason(reason) for reason in decision.reasons],
        "fingerprint": decision.fingerprint,
        "seconds": decision.seconds,
        "notes": list(decision.notes),
    }


def _reason(reason: Reason) -> dict[str, str]:
    return {
        "kind": reason.kind,
        "what": reason.what,
        "where": reason.where,
        "old": reason.old,
        "new": reason.new,
        "was": reason.was,
        "text": reason.text(),
    }


def show_plan(made: Plan) -> None:
    """Write a plan as a table, and in one line what it amounts to."""
    from mlops_local.cli import output

    columns: list[output.Column | str] = [
        output.Column("step", keep=True),
        output.Column("state", keep=True, styles=STYLES),
        "because",
        output.Column("takes", right=True),
    ]
    rows = [(d.name, d.state, "; ".join(reason.text() for reason in d.reasons), _takes(d)) for d in made.decisions]
    output.table(columns, rows, empty="no steps: the pipeline module declares none")
    if rows:
        output.line(_total(made))
    _show_notes(made.decisions)


def _show_notes(decisions: Iterable[Decision]) -> None:
    """What steps read without declaring it."""
    from mlops_local.cli import output

    for decision in decisions:
        for note in decision.notes:
            output.line(f"! {decision.name} {note}")


def _takes(decision: Decision | Node) -> str:
    from mlops_local.cli import output

    if decision.state != "stale":
        return ""
    return output.seconds(decision.seconds) if decision.seconds is not None else "unknown"


def _total(made: Plan) -> str:
    from mlops_local.cli import output
    from mlops_local.domain.names import counted

    count = len(made.decisions)
    if not made.stale:
        return f"nothing to do: {'the one step is' if count == 1 else f'all {count} steps are'} fresh"
    blocked = sum(decision.state == "blocked" for decision in made.stale)
    to_run = [decision for decision in made.stale if decision.state == "stale"]
    known = [decision.seconds for decision in to_run if decision.seconds is not None]
    said = f"{len(to_run)} of {counted(count, 'step')} to run"
    if known:
        said += f", about {output.seconds(sum(known))} one after the other"
    if len(known) < len(to_run):
        said += f", {len(to_run) - len(known)} of unknown length"
    return said + (f"; {blocked} blocked" if blocked else "")


@click.command(epilog="\b\nExamples:\n  mlops why gbm\n  mlops why gbm.evaluate --json")
@click.argument("step")
@set_option
@json_option
@click.pass_obj
def why(settings: Settings, step: str, params: dict[str, str]) -> None:
    """Say why a step would run: every branch of reasons, down to what was edited. Runs nothing."""
    from mlops_local.cli import output
    from mlops_local.services import planning

    with settings.progress() as emit:
        causes = planning.why(settings.project(), step, params=params, emit=emit)
    if settings.json:
        found = {decision.name: decision for cause in causes for decision in cause.chain()}
        output.items("why", [decision_fields(decision) for decision in found.values()])
        return
    seen: set[str] = set()
    for cause in causes:
        takes = _takes(cause.decision)
        said = f", takes about {takes}" if takes and takes != "unknown" else ""
        state = output.paint(STYLES[cause.decision.state], cause.decision.state)
        output.raw(f"{output.escape(cause.decision.name)} is {state}{said}\n")
        if not cause.decision.reasons:
            output.line(f"{output.branch([], last=True)}nothing it depends on changed")
        _show_causes(cause, [], seen)
    _show_notes(decision for cause in causes for decision in cause.chain())


def _show_causes(cause: Cause, depth: list[bool], seen: set[str]) -> None:
    """One line a reason, and below it what is behind it; a step that was explained above is not explained again."""
    from mlops_local.cli import output

    reasons = cause.decision.reasons
    for number, reason in enumerate(reasons):
        last = number == len(reasons) - 1
        behind = cause.behind.get(reason.what) if reason.kind == "data" else None
        known = behind is not None and behind.decision.name in seen
        output.line(f"{output.branch(depth, last=last)}{reason.text()}{' (see above)' if known else ''}")
        if behind is not None and not known:
            seen.add(behind.decision.name)
            _show_causes(behind, [*depth, last], seen)


@click.command(
    epilog="\b\nExamples:\n  mlops dag\n  mlops dag gbm\n  mlops dag --format mermaid > docs/graph.mmd\n"
    "  mlops dag --format dot | dot -Tsvg > graph.svg"
)
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@click.option("--format", "form", type=click.Choice(["tree", "dot", "mermaid"]), default="tree", help="How to write it (tree).")
@json_option
@click.pass_obj
def dag(settings: Settings, targets: tuple[str, ...], form: str) -> None:
    """Show the graph: what each step reads, down to the data, and which steps are fresh. Runs nothing."""
    from mlops_local.cli import output, pictures
    from mlops_local.services import planning

    with settings.progress() as emit:
        found = planning.dag(settings.project(), targets, emit=emit)
    if settings.json:
        output.items("dag", [_node(node) for node in found.nodes], targets=found.targets)
    elif not found.nodes:
        output.line("no steps: the pipeline module declares none")
    elif form == "dot":
        output.raw(pictures.dot(found))
    elif form == "mermaid":
        output.raw(pictures.mermaid(found))
    else:
        _show_tree(found)


def _node(node: Node) -> dict[str, Any]:
    inputs = [{"node": name, "output": part} for name, part in node.inputs]
    return {
        "name": node.name,
        "kind": node.kind,
        "state": node.state,
        "model": node.model,
        "pattern": node.about,
        "inputs": inputs,
        "reasons": [_reason(reason) for reason in node.reasons],
        "seconds": node.seconds,
    }


def _show_tree(found: Dag) -> None:
    """What nothing else reads at the left, what it reads below it; a node that was drawn above is only named again."""
    from mlops_local.cli import output

    nodes = {node.name: node for node in found.nodes}
    rows: list[tuple[str, Node | None]] = []
    drawn: set[str] = set()

    def draw(name: str, label: str, prefix: str, depth: list[bool]) -> None:
        node = nodes[name]
        again = name in drawn and bool(node.inputs)
        rows.append((f"{prefix}{label}{' (above)' if again else ''}", None if again else node))
        if again:
            return
        drawn.add(name)
        inputs = list(dict.fromkeys(item for item, _ in node.inputs if item in nodes))
        for number, item in enumerate(inputs):
            parts = [part for other, part in node.inputs if other == item and part]
            last = number == len(inputs) - 1
            shown = f"{item}.{parts[0]}" if len(parts) == 1 else f"{item}.{{{','.join(parts)}}}" if parts else item
            draw(item, shown, output.branch(depth, last=last), [*depth, last])

    read = {item for node in found.nodes for item, _ in node.inputs}
    for node in found.nodes:
        if node.name not in read:
            draw(node.name, node.name, "", [])
    columns = [
        output.Column("node", keep=True),
        output.Column("state", keep=True, styles=STYLES),
        output.Column("takes", right=True),
        output.Column("because"),
    ]
    output.table(columns, [(label, *_beside(node)) for label, node in rows])


def _beside(node: Node | None) -> tuple[str, str, str]:
    if node is None:
        return "", "", ""
    if node.kind == "source":
        return "source" if node.state == "fresh" else node.state, "", node.about
    below = {name for name, _ in node.inputs} | {f"{name}.{part}" for name, part in node.inputs if part}
    own = [reason.text() for reason in node.reasons if reason.kind != "data" or reason.old or reason.what not in below]
    return node.state, _takes(node), "; ".join(own)
