"""The line a watcher ends each change with, readable at a glance: what changed, ran, was reused, and what the gates said."""

from __future__ import annotations

from mlops_local.domain.assets import GateResult, ModelVersion, Verdict
from mlops_local.services.train import TrainResult
from mlops_local.store.registry import Registry

_SHOWN = 4


def done(why: str, result: TrainResult, state: Registry, seconds: float, watching: str = "") -> str:
    """One line for a run that ended well.

    Args:
        why: what changed, or empty.
        result: what was run.
        state: the registry afterwards.
        seconds: from the change to now.
        watching: what is watched, said once at the start.
    """
    count = len(result.plan.decisions)
    if not result.ran:
        text = f"nothing to do, {steps(count)} fresh"
        return "; ".join(part for part in (f"{why}: {text}" if why else text, watching) if part)
    ran = ", ".join(result.ran[:_SHOWN]) + (f" and {len(result.ran) - _SHOWN} more" if len(result.ran) > _SHOWN else "")
    parts = [f"ran {ran}", f"reused {len(result.reused)}"]
    parts += [version(item, result.verdicts.get(item.id), state) for item in result.versions]
    parts.append(f"{seconds:.1f} s")
    text = " · ".join(parts)
    return "; ".join(part for part in (f"{why}: {text}" if why else text, watching) if part)


def version(item: ModelVersion, verdict: Verdict | None, state: Registry) -> str:
    """`delay@4 auc 0.7231 [0.661, 0.780], +0.0021 [-0.001, +0.005] against delay@3, pass, champion`."""
    interval = f" [{item.low:.3f}, {item.high:.3f}]" if item.low is not None and item.high is not None else ""
    parts = [f"{item.id} {item.metric} {item.value:.4f}{interval}"]
    gate = _compared(verdict, item.metric)
    if verdict is not None and gate is not None:
        between = f" [{gate.low:+.4f}, {gate.high:+.4f}]" if gate.low is not None and gate.high is not None else ""
        parts.append(f"{gate.difference:+.4f}{between} against {verdict.baseline}")
    if verdict is not None:
        parts.append(verdict.verdict)
    champion = state.champion(item.model)
    if champion is not None:
        parts.append("champion" if champion.id == item.id else f"{champion.id} stays champion")
    return ", ".join(parts)


def steps(count: int) -> str:
    """`1 step`, `3 steps`."""
    return f"{count} step{'' if count == 1 else 's'}"


def _compared(verdict: Verdict | None, metric: str) -> GateResult | None:
    gates = [gate for gate in verdict.gates if gate.difference is not None] if verdict is not None else []
    return next((gate for gate in gates if gate.metric == metric), gates[0] if gates else None)
