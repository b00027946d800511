"""A verdict as text: each gate with its numbers and its interval drawn against zero and the limit."""

from __future__ import annotations

import re

from textual.content import Content

from mlops_local.domain.assets import GateResult, Verdict
from mlops_local.domain.names import counted
from mlops_local.tui import words
from mlops_local.tui.widgets import interval

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")


def verdict_text(verdict: Verdict | None, width: int) -> Content:
    """Everything a verdict says, in lines at most `width` wide."""
    if verdict is None:
        return words.empty("Not judged yet.", "mlops train", "judges a version when it is made")
    baseline = f"against {verdict.baseline}" if verdict.baseline else "no champion to compare with"
    parts: list[Content | str] = [Content.assemble(words.verdict_text(verdict.verdict), ("   " + baseline, words.MUTED))]
    for gate in verdict.gates:
        parts += ["", *_gate(gate, width)]
    return words.lines(parts)


def _gate(gate: GateResult, width: int) -> list[Content]:
    rows = [Content.assemble((gate.metric, words.STRONG), f"  {gate.rule}   ", words.verdict_text(gate.verdict))]
    sample = _sample(gate)
    if gate.candidate is not None:
        text = f"{words.number(gate.candidate)}"
        if gate.champion is not None:
            text += f" against {words.number(gate.champion)}"
        rows.append(Content.assemble("  ", text, (f"   {sample}", words.MUTED)))
    elif sample:
        rows.append(Content.styled(f"  {sample}", words.MUTED))
    if gate.difference is not None:
        rows.append(
            Content.assemble(
                ("  difference ", words.MUTED),
                words.number(gate.difference, signed=True),
                " ",
                words.interval(gate.low, gate.high, signed=True),
            )
        )
        rows += _drawing(gate, max(20, min(64, width - 4)))
    if gate.note:
        rows.append(Content.styled(f"  {gate.note}", words.MUTED))
    return rows


def _sample(gate: GateResult) -> str:
    text = counted(gate.rows, "row") if gate.rows else ""
    if gate.clusters:
        text += f" in {counted(gate.clusters, 'cluster')}"
    return text


def limit_of(gate: GateResult) -> float | None:
    """Where the allowed loss ends, as a difference: `max_drop 0.005` -> -0.005."""
    if not gate.rule.startswith("max_drop"):
        return None
    found = _NUMBER.search(gate.rule)
    return -abs(float(found.group())) if found else None


def _drawing(gate: GateResult, width: int) -> list[Content]:
    limit = limit_of(gate)
    scale = interval.scale_for([gate.low, gate.difference, gate.high, 0.0, limit], width)
    marks: list[tuple[float, str, str]] = [(0.0, "│", words.MUTED)]
    if limit is not None:
        marks.append((limit, "┊", words.WARN))
    line = interval.draw(
        gate.low, gate.difference, gate.high, scale=scale, style=words.verdict_style(gate.verdict), marks=tuple(marks)
    )
    labels = [" "] * width
    notes = [(0.0, "0")] + ([(limit, words.number(limit))] if limit is not None else [])
    for where, text in notes:
        start = max(0, min(width - len(text), scale.place(where) - len(text) // 2))
        if all(cell == " " for cell in labels[max(0, start - 1) : start + len(text) + 1]):
            labels[start : start + len(text)] = text
    return [Content.assemble("  ", line), Content.styled("  " + "".join(labels).rstrip(), words.FAINT)]
