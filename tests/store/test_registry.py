"""What the decisions amount to."""

from __future__ import annotations

from dataclasses import asdict

from mlops_local.domain import events
from mlops_local.domain.assets import GateResult, ModelVersion, Verdict
from mlops_local.store import ledger, registry
from mlops_local.store.layout import Layout


def _register(layout: Layout, fingerprint: str) -> ModelVersion:
    return ledger.append_version(
        layout,
        lambda number: ModelVersion(
            id="",
            model="delay",
            number=number,
            candidate="gbm",
            run="r",
            fingerprint=fingerprint,
            bundle={},
            bundle_hash=fingerprint,
            predictions="p",
            evaluation="e",
            metric="auc",
            value=0.7,
        ),
    )


def test_an_empty_store_has_nothing(layout: Layout) -> None:
    """Before the first decision everything is empty and no champion is there."""
    empty = registry.load(layout)
    assert not empty.versions and not empty.aliases and empty.champion("delay") is None and empty.deployed("delay") is None


def test_decisions_are_applied_in_order(layout: Layout) -> None:
    """Versions with their present state, the newest verdict, the champion, and what a server said."""
    first, second = _register(layout, "f1"), _register(layout, "f2")
    ledger.append(layout, events.STATE, first.id, "retired", expect="new")
    ledger.append(layout, events.ALIAS, "delay@champion", first.id)
    ledger.append(layout, events.ALIAS, "delay@champion", second.id, expect=first.id)
    for value in ("inconclusive", "pass"):
        verdict = Verdict(second.id, first.id, value, (GateResult("auc", "max_drop 0.005", value, low=float("nan")),))
        ledger.append(layout, events.VERDICT, second.id, value, data=asdict(verdict))
    ledger.append(layout, events.DEPLOYMENT, "delay", second.id, data={"event": "deployed", "port": 8501, "pid": 7})
    now = registry.load(layout)
    assert list(now.versions) == ["delay@1", "delay@2"]
    assert now.versions["delay@1"].state == "retired" and now.versions["delay@2"].state == "new"
    champion = now.champion("delay")
    assert champion is not None and champion.id == "delay@2"
    assert now.verdicts["delay@2"].verdict == "pass" and now.verdicts["delay@2"].gates[0].rule == "max_drop 0.005"
    deployed = now.deployed("delay")
    assert deployed is not None and (deployed.version, deployed.port, deployed.pid) == ("delay@2", 8501, 7)
    assert [version.id for version in now.of("delay")] == ["delay@2", "delay@1"] and now.models() == ["delay"]


def test_a_rejected_version_does_not_end_a_deployment_but_a_stop_does(layout: Layout) -> None:
    """A version that failed to load never replaces the one that serves."""
    made = _register(layout, "f1")
    ledger.append(layout, events.DEPLOYMENT, "delay", made.id, data={"event": "deployed"})
    ledger.append(layout, events.DEPLOYMENT, "delay", "delay@2", data={"event": "rejected", "reason": "golden rows"})
    still = registry.load(layout)
    deployed = still.deployed("delay")
    assert deployed is not None and deployed.version == made.id and still.deployments[-1].reason == "golden rows"
    ledger.append(layout, events.DEPLOYMENT, "delay", made.id, data={"event": "stopped"})
    assert registry.load(layout).deployed("delay") is None


def test_removed_aliases_and_deleted_versions_are_gone(layout: Layout) -> None:
    """An alias set to nothing and a deleted version are no longer there."""
    made = _register(layout, "f1")
    ledger.append(layout, events.ALIAS, "delay@champion", made.id)
    ledger.append(layout, events.ALIAS, "delay@champion", None)
    ledger.append(layout, events.DELETION, made.id, None)
    now = registry.load(layout)
    assert not now.aliases and not now.versions


def test_standing_still_costs_nothing(layout: Layout) -> None:
    """The same object comes back while the ledger has not changed, and another one after a decision."""
    _register(layout, "f1")
    before = registry.load(layout)
    assert registry.load(layout) is before
    _register(layout, "f2")
    assert len(registry.load(layout).versions) == 2 and len(before.versions) == 1
