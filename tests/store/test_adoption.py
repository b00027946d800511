"""Decisions of other stores as decisions of this one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from mlops_local.domain import events
from mlops_local.domain.assets import ModelVersion, Verdict
from mlops_local.domain.errors import IntegrityError
from mlops_local.store import adoption, ledger, registry
from mlops_local.store import layout as layouts
from mlops_local.store.layout import Layout
from mlops_local.store.ledger import Entry
from mlops_local.store.lockfile import ModelEntry

HASH = "ab" * 32


def make_version(name: str, **more: Any) -> ModelVersion:
    """A version whose fingerprint is its name."""
    fixed: dict[str, Any] = {
        "id": "", "model": "m", "number": 0, "candidate": "c", "run": "r", "fingerprint": name, "bundle": {"model.onnx": HASH},
        "bundle_hash": f"b-{name}", "predictions": HASH, "evaluation": "e", "metric": "auc", "value": 0.5,
    }  # fmt: skip
    return ModelVersion(**{**fixed, **more})


def store(folder: Path, *versions: str, champion: str = "") -> Layout:
    """A store with these versions, each with a passing verdict."""
    layout = Layout(folder)
    layout.root.mkdir()
    layouts.create(layout)
    for name in versions:
        made = ledger.append_version(layout, lambda number, name=name: make_version(name))  # type: ignore[misc]
        verdict = asdict(Verdict(made.id, "m@1" if made.number > 1 else "", "pass"))
        ledger.append(layout, events.VERDICT, made.id, "pass", data=verdict)
        if name == champion:
            state = Entry(events.STATE, made.id, "approved")
            ledger.append(layout, events.ALIAS, "m@champion", made.id, reason="passed its gates", also=[state])
    return layout


def lines(layout: Layout, name: str = "there") -> list[Mapping[str, Any]]:
    """What a store tells another one."""
    return [{**asdict(line), "store": name} for line in ledger.read(layout)]


def lock(name: str) -> dict[str, ModelEntry]:
    """An mlops.lock that names a champion."""
    return {"m": ModelEntry("m@9", name, "e", "auc", 0.5, f"b-{name}")}


def take(layout: Layout, told: list[Mapping[str, Any]], named: Mapping[str, ModelEntry] | None = None) -> adoption.Adopted:
    """Adopt and append."""
    made = adoption.adopt(registry.load(layout), told, named or {})
    if made.entries:
        first, *also = made.entries
        ledger.append(
            layout, first.kind, first.subject, first.value, expect=first.expect, data=first.data, reason=first.reason, also=also
        )
    return made


def test_a_new_store_gets_the_same_numbers_verdict_and_champion(tmp_path: Path) -> None:
    """In an empty store all is as it was there, with its origin; taking it once more adds nothing, and the chain is whole."""
    there, here = store(tmp_path / "a", "x", "y", champion="y"), store(tmp_path / "b")
    take(here, lines(there), lock("y"))
    mine, theirs = registry.load(here), registry.load(there)
    assert mine.versions == theirs.versions and mine.aliases == theirs.aliases and mine.verdicts == theirs.verdicts
    origin = ledger.read(here)[0].data["origin"]
    assert origin["store"] == "there" and origin["hash"] == ledger.read(there)[0].hash and origin["seq"] == 1
    assert take(here, lines(there), lock("y")).entries == [] and ledger.verify(here) == []


def test_a_part_of_the_decisions_keeps_the_number(tmp_path: Path) -> None:
    """A champion that comes alone is the version mlops.lock calls it; what is made here afterwards gets a later number."""
    there, here = store(tmp_path / "a", "x", "y", champion="y"), store(tmp_path / "b")
    take(here, [line for line in lines(there) if "m@2" in (line["subject"], line["value"])], lock("y"))
    state = registry.load(here)
    assert list(state.versions) == ["m@2"] and state.champion("m") == state.versions["m@2"]
    assert state.verdicts["m@2"].baseline == "m@1 of there", "the baseline did not come along: it is nobody here"
    assert ledger.append_version(here, lambda number: make_version("z")).id == "m@3"


def test_a_number_that_is_taken_moves_on_and_what_refers_to_it_too(tmp_path: Path) -> None:
    """Two stores that made versions apart: both are kept, and verdicts go on speaking of the same ones."""
    there, here = store(tmp_path / "a", "x", "y", champion="y"), store(tmp_path / "b", "own", champion="own")
    made = take(here, lines(there))
    state = registry.load(here)
    assert made.versions == {("there", "m@1"): "m@2", ("there", "m@2"): "m@3"}
    assert {id: version.fingerprint for id, version in state.versions.items()} == {"m@1": "own", "m@2": "x", "m@3": "y"}
    assert state.verdicts["m@3"].baseline == "m@2" and state.versions["m@3"].state == "approved"
    assert state.aliases == {"m@champion": "m@1"}, "mlops.lock does not speak of it: our champion stays"


def test_the_same_version_made_in_both_is_one(tmp_path: Path) -> None:
    """Equal fingerprint and bundle: no second version, and what was decided here stands."""
    there, here = store(tmp_path / "a", "other", "x", champion="x"), store(tmp_path / "b", "x")
    ledger.append(here, events.STATE, "m@1", "rejected")
    made = take(here, [line for line in lines(there) if line["subject"] != "m@1"], lock("x"))
    assert made.versions == {("there", "m@2"): "m@1"} and made.new == []
    assert registry.load(here).versions["m@1"].state == "rejected" and registry.load(here).champion("m") is None


def test_the_champion_follows_mlops_lock_to_what_is_new(tmp_path: Path) -> None:
    """A teammate's champion, committed and pulled, is ours from then on; pulling an older commit later moves nothing back."""
    there, here = store(tmp_path / "a", "x", "y", champion="y"), store(tmp_path / "b", "x", champion="x")
    take(here, lines(there), lock("y"))
    champion = registry.load(here).champion("m")
    assert champion is not None and champion.fingerprint == "y"
    assert take(here, lines(there), lock("x")).entries == []


def test_origin_is_where_it_was_decided_first(tmp_path: Path) -> None:
    """What came by way of a third store still says who decided it."""
    first, second, third = store(tmp_path / "a", "x", champion="x"), store(tmp_path / "b"), store(tmp_path / "c")
    take(second, lines(first, "first"))
    take(third, lines(second, "second"))
    told = ledger.read(third)[0]
    assert told.data["origin"]["store"] == "first" and told.reason.startswith("pulled: ")
    assert told.reason == ledger.read(second)[0].reason


@pytest.mark.parametrize(
    "change",
    [
        {"bundle": {"../../x": HASH}}, {"bundle": {"/x": HASH}}, {"bundle": {"x": "../../etc"}}, {"predictions": "x"},
        {"number": "2"}, {"candidate": {}}, {"value": [1]}, {"model": "other"}, {"bundle": None}, {"snapshots": {"a": 3}},
    ],
)  # fmt: skip
def test_a_version_that_reaches_outside_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    """Whatever a foreign ledger says, no path and no hash of it leads out of the store."""
    there, here = store(tmp_path / "a", "x"), store(tmp_path / "b")
    (version, *others) = lines(there)
    with pytest.raises(IntegrityError, match="none of a store's"):
        take(here, [{**version, "data": {**version["data"], **change}}, *others])
    assert ledger.read(here) == []


def test_garbage_is_refused_before_it_is_in_the_ledger(tmp_path: Path) -> None:
    """A verdict or state no store would write would stop every later command: it never gets in."""
    there, here = store(tmp_path / "a", "x", champion="x"), store(tmp_path / "b")
    gate = {"metric": "auc", "rule": "min", "verdict": "pass", "candidate": "high"}
    odd: list[tuple[str, dict[str, Any]]] = [
        (events.VERDICT, {"data": {"verdict": "pass", "gates": [item]}}) for item in (3, gate)
    ]
    odd.append((events.STATE, {"value": "great"}))
    odd += [(events.ALIAS, {"subject": subject}) for subject in ("other@champion", "m@a\nb", "m@", "@champion")]
    data = {**lines(there)[0]["data"], "id": "a\nb@1", "model": "a\nb"}
    odd.append((events.VERSION, {"subject": "a\nb@1", "data": data}))
    for kind, change in odd:
        told = [{**line, **change} if line["kind"] == kind else line for line in lines(there)]
        with pytest.raises(IntegrityError):
            take(here, told)
    assert ledger.read(here) == []
