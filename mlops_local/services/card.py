"""A snapshot described in Markdown, from what the store knows: nothing in it is typed twice."""

from __future__ import annotations

from collections.abc import Sequence

from mlops_local.domain.assets import ColumnProfile, Snapshot
from mlops_local.domain.graph import Source
from mlops_local.services import checks, data, datalog, references
from mlops_local.services import lineage as lineages
from mlops_local.services.project import Project


def card(project: Project, sources: Sequence[Source], reference: str) -> str:
    """Return the card of a snapshot; values of private columns are left out.

    Args:
        project: the project.
        sources: the pipeline's.
        reference: the snapshot.
    """
    held = references.snapshot(project, reference)
    source = next((item for item in sources if item.name == held.source), Source(held.source, ""))
    parts = [
        f"# {held.source}\n",
        _about(source, held),
        _columns(data.shown(project, held, sources).columns),
        _rules(project, held),
        _history(project, held),
        _uses(project, held),
    ]
    return "\n".join(part for part in parts if part)


def _about(source: Source, held: Snapshot) -> str:
    table = any(entry.rows is not None for entry in held.files)
    facts = [
        ("Snapshot", f"`{held.id}`"),
        ("Files", f"{len(held.files):,} ({source.labels or source.pattern or 'unknown pattern'})"),
    ]
    facts += [("Rows", f"{held.rows:,}")] if table else []
    facts.append(("Bytes", f"{held.bytes:,}, {'kept in the store' if held.kept == 'full' else 'kept by reference'}"))
    for name, value in (
        ("Key", ", ".join(source.key)),
        ("Time", source.time),
        ("Known only afterwards", ", ".join(source.outcome)),
        ("Private", ", ".join(source.private)),
    ):
        facts += [(name, value)] if value else []
    return "\n".join(f"- **{name}**: {value}" for name, value in facts) + "\n"


def _columns(columns: Sequence[ColumnProfile]) -> str:
    if not columns:
        return ""
    lines = [
        "## Columns\n",
        "| column | type | nulls | distinct | min | median | max | mean | std |",
        "|---|---|--:|--:|---|---|---|--:|--:|",
    ]
    for item in columns:
        about = "about " if (item.distinct or 0) >= 1024 else ""
        cells = [
            item.name,
            item.type,
            f"{item.nulls:,}",
            "" if item.distinct is None else f"{about}{item.distinct:,}",
            _short(item, item.min),
            "" if not item.quantiles else f"{item.quantiles[2]:.6g}",
            _short(item, item.max),
            "" if item.mean is None else f"{item.mean:.6g}",
            "" if item.std is None else f"{item.std:.6g}",
        ]
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _short(item: ColumnProfile, text: str) -> str:
    return f"{float(text):.6g}" if item.mean is not None and "." in text else text


def _cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


def _rules(project: Project, held: Snapshot) -> str:
    wanted = checks.rules(project, held.source)
    if not wanted:
        return ""
    listed = "\n".join(f"- `{item.text}` ({item.severity})" for item in wanted)
    return f"## Rules\n\n{listed}\n"


def _history(project: Project, held: Snapshot) -> str:
    entries = datalog.log(project, held.source, limit=10)
    lines = ["## Snapshots\n", "| snapshot | created | rows | files | change |", "|---|---|--:|--:|---|"]
    for item in entries:
        counts = {"added": item.added, "removed": item.removed, "changed": item.changed, "moved": item.moved}
        change = ", ".join(f"{count:,} {verb}" for verb, count in counts.items() if count)
        named = f" ({', '.join(item.tags)})" if item.tags else ""
        rows = "" if item.rows is None else f"{item.rows:,}"
        lines.append(
            f"| `{item.snapshot[:8]}`{named} | {item.created[:16].replace('T', ' ')} UTC | {rows} | {item.files:,} | {change} |"
        )
    return "\n".join(lines) + "\n"


def _uses(project: Project, held: Snapshot) -> str:
    made = [step for step in lineages.lineage(project, f"{held.source}@{held.id}").results if step.kind == "version"]
    if not made:
        return ""
    return "## Models made from it\n\n" + "\n".join(f"- `{step.name}`: {step.about}" for step in made) + "\n"
