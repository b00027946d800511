"""What a watcher says at each change, readable at a glance: what changed, ran, was reused, and what the gates said.

A line is rows of short parts: one row for the change, one for each version it made. Where there is room they are one line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mlops_local.domain.assets import GateResult, ModelVersion, Verdict
from mlops_local.domain.names import counted
from mlops_local.services.train import TrainResult
from mlops_local.store.registry import Registry

_SHOWN = 4
_FILES = 2
Rows = list[list[str]]


def text(rows: Sequence[Sequence[str]]) -> str:
    """Everything as one line."""
    return " · ".join(part for row in rows for part in row)


def what(changed: Sequence[str]) -> str:
    """`pipeline.py`, `data/a.parquet and 2 more`."""
    more = len(changed) - 1
    return " and ".join(changed) if more < _FILES else f"{changed[0]} and {more} more"


def nothing(changed: Sequence[str], count: int) -> list[str]:
    """The row for a change that means nothing."""
    return [*([what(changed)] if changed else []), f"nothing to do, {counted(count, 'step')} fresh"]


def done(changed: Sequence[str], result: TrainResult, state: Registry, seconds: float) -> Rows:
    """The rows for a run that ended well.

    Args:
        changed: the files that brought it about.
        result: what was run.
        state: the registry afterwards.
        seconds: from the change to now.
    """
    head = [what(changed)] if changed else []
    if not result.ran:
        champions = [_champion(state, model) for model in sorted(result.champions)]
        return [nothing(changed, len(result.plan.decisions)), *([champions] if champions and not changed else [])]
    head += [f"ran {_some(result.ran)}", *([f"reused {len(result.reused)}"] if result.reused else []), f"{seconds:.1f} s"]
    return [head, *(version(item, result.verdicts.get(item.id), state) for item in result.versions)]


def smoke(changed: Sequence[str], result: TrainResult, seconds: float, fraction: float) -> Rows:
    """The rows for a run on a sample."""
    did = f"ran {_some(result.ran)}" if result.ran else "nothing to do"
    measured = [
        f"{name} {', '.join(f'{key} {value:.4f}' for key, value in metrics.items())}"
        for name, metrics in result.measured.items()
    ]
    head = [*([what(changed)] if changed else []), f"on {fraction:.0%} of the rows: {did}", f"{seconds:.1f} s"]
    return [head, [*measured, "the full run follows"]]


def smoke_facts(result: TrainResult, seconds: float, fraction: float) -> dict[str, object]:
    """The same for a program."""
    measured = {name: dict(metrics) for name, metrics in result.measured.items()}
    values = {"run": result.run, "ran": list(result.ran), "reused": list(result.reused), "seconds": round(seconds, 3)}
    return {**values, "sample": fraction, "measured": measured}


def version(item: ModelVersion, verdict: Verdict | None, state: Registry) -> list[str]:
    """`delay@4 auc 0.7231`, `+0.0021 [-0.0010, +0.0050] against delay@3`, `pass, champion`."""
    gate = _compared(verdict, item.metric)
    interval = f" [{item.low:.3f}, {item.high:.3f}]" if gate is None and item.low is not None and item.high is not None else ""
    parts = [f"{item.id} {item.metric} {item.value:.4f}{interval}"]
    if verdict is not None and gate is not None:
        between = f" [{gate.low:+.4f}, {gate.high:+.4f}]" if gate.low is not None and gate.high is not None else ""
        parts.append(f"{gate.difference:+.4f}{between} against {verdict.baseline}")
    said = [verdict.verdict] if verdict is not None else []
    champion = state.champion(item.model)
    if champion is not None:
        said.append("champion" if champion.id == item.id else f"{champion.id} stays champion")
    return [*parts, *([", ".join(said)] if said else [])]


def facts(result: TrainResult, state: Registry, seconds: float) -> dict[str, object]:
    """The same for a program."""
    models = []
    for item in result.versions:
        verdict = result.verdicts.get(item.id)
        gate = _compared(verdict, item.metric)
        champion = state.champion(item.model)
        models.append(
            {
                "model": item.model,
                "version": item.id,
                "candidate": item.candidate,
                "metric": item.metric,
                "value": item.value,
                "low": item.low,
                "high": item.high,
                "baseline": verdict.baseline if verdict is not None else "",
                "difference": gate.difference if gate is not None else None,
                "difference_low": gate.low if gate is not None else None,
                "difference_high": gate.high if gate is not None else None,
                "verdict": verdict.verdict if verdict is not None else "",
                "failed": _failed(verdict),
                "champion": champion.id if champion is not None else "",
            }
        )
    fresh = len(result.plan.decisions) - len(result.plan.stale)
    return {
        "run": result.run,
        "ran": list(result.ran),
        "reused": list(result.reused),
        "fresh": fresh,
        "models": models,
        "seconds": round(seconds, 3),
    }


def _some(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def hint(text: str) -> str:
    """A command's hint as the watcher says it: it goes on by itself."""
    return text.replace("and run the command again", "and save the file")


def _failed(verdict: Verdict | None) -> list[Mapping[str, object]]:
    """The gates that did not pass."""
    gates = verdict.gates if verdict is not None else ()
    names = ("metric", "rule", "verdict", "candidate", "champion", "difference", "low", "high", "note")
    return [{name: getattr(gate, name) for name in names} for gate in gates if gate.verdict != "pass"]


def _champion(state: Registry, model: str) -> str:
    champion = state.champion(model)
    return f"champion {champion.id} {champion.metric} {champion.value:.4f}" if champion is not None else f"{model}: no champion"


def _compared(verdict: Verdict | None, metric: str) -> GateResult | None:
    gates = [gate for gate in verdict.gates if gate.difference is not None] if verdict is not None else []
    return next((gate for gate in gates if gate.metric == metric), gates[0] if gates else None)
