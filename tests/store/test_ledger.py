"""The one ordered file of decisions."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
from collections.abc import Callable
from dataclasses import replace

import pytest

from mlops_local.domain import events
from mlops_local.domain.assets import ModelVersion
from mlops_local.domain.errors import Conflict, IntegrityError
from mlops_local.store import ledger, registry
from mlops_local.store.layout import Layout
from mlops_local.store.ledger import Entry

Start = Callable[..., "subprocess.Popen[str]"]


def version(number: int, fingerprint: str = "f", model: str = "delay") -> ModelVersion:
    """A version as an evaluate step makes it."""
    return ModelVersion(
        id="",
        model=model,
        number=number,
        candidate="gbm",
        run="r",
        fingerprint=fingerprint,
        bundle={"manifest.json": "ab"},
        bundle_hash="b" + fingerprint,
        predictions="c",
        evaluation="e",
        metric="auc",
        value=0.7,
        metrics={"auc": 0.7, "odd": math.nan},
        snapshots={"flights": "s"},
    )


def test_lines_are_numbered_chained_and_checkable_without_us(layout: Layout) -> None:
    """Every line names the hash of the one before; SHA-256 over the line's sorted JSON without `hash` gives its hash."""
    ledger.append(layout, events.ALIAS, "delay@champion", "delay@1", reason="first", data={"a": math.inf})
    ledger.append(layout, events.ALIAS, "delay@champion", "delay@2", actor="ann")
    before = "0" * 64
    for number, text in enumerate(layout.ledger.read_text().splitlines(), start=1):
        line = json.loads(text)
        hash = line.pop("hash")
        body = json.dumps(line, sort_keys=True, separators=(",", ":"))
        assert hashlib.sha256(body.encode()).hexdigest() == hash
        assert (line["seq"], line["prev"]) == (number, before)
        before = hash
    assert [line.actor for line in ledger.read(layout)][1] == "ann"
    assert ledger.verify(layout) == []
    head = ledger.head(layout)
    assert head is not None and head.hash == before


def test_whoever_expects_another_value_is_told_who_set_it(layout: Layout) -> None:
    """Compare and set: the loser's error names the winner, the value, the time and the reason; nothing is appended."""
    ledger.append(layout, events.ALIAS, "delay@champion", "delay@1", expect=None, actor="ann", reason="better")
    with pytest.raises(Conflict) as caught:
        ledger.append(layout, events.ALIAS, "delay@champion", "delay@2", expect=None)
    assert "delay@champion is delay@1, not nothing: ann on " in caught.value.message and "better" in caught.value.message
    with pytest.raises(Conflict, match="is not set, expected delay@7"):
        ledger.append(layout, events.ALIAS, "other@champion", "other@1", expect="delay@7")
    ledger.append(layout, events.ALIAS, "delay@champion", None, expect="delay@1")
    ledger.append(layout, events.ALIAS, "delay@champion", "delay@2", expect=None)
    assert len(ledger.read(layout)) == 3


def test_decisions_of_one_moment_are_all_there_or_none(layout: Layout) -> None:
    """A conflict in the second entry keeps out the first; a torn group is not read, and the next appender removes it."""
    ledger.append(layout, events.ALIAS, "a@champion", "a@1")
    with pytest.raises(Conflict):
        ledger.append(layout, events.ALIAS, "b@champion", "b@1", also=[Entry(events.ALIAS, "a@champion", "a@2", expect="a@9")])
    assert len(ledger.read(layout)) == 1
    ledger.append(layout, events.ALIAS, "b@champion", "b@1", also=[Entry(events.ALIAS, "c@champion", "c@1")])
    whole = layout.ledger.read_bytes()
    layout.ledger.write_bytes(whole[:-5])
    assert [line.subject for line in ledger.read(layout)] == ["a@champion"]
    ledger.append(layout, events.ALIAS, "d@champion", "d@1")
    assert [line.subject for line in ledger.read(layout)] == ["a@champion", "d@champion"]
    assert ledger.verify(layout) == []


def test_a_later_entry_sees_what_an_earlier_one_set(layout: Layout) -> None:
    """Within one moment the order counts."""
    ledger.append(layout, events.ALIAS, "a@x", "1", also=[Entry(events.ALIAS, "a@x", "2", expect="1")])
    assert [line.value for line in ledger.read(layout)] == ["1", "2"]


def test_versions_are_numbered_in_order_per_model(layout: Layout) -> None:
    """The number, id and time are given under the lock; another model counts by itself; the alias comes with it."""
    first = ledger.append_version(layout, lambda number: version(number, "f1"))
    other = ledger.append_version(layout, lambda number: version(number, "f1", "price"))
    second = ledger.append_version(
        layout,
        lambda number: version(number, "f2"),
        also=lambda made: [Entry(events.ALIAS, "delay@champion", made.id, expect=None)],
    )
    assert [first.id, other.id, second.id] == ["delay@1", "price@1", "delay@2"]
    assert second.created.endswith("Z") and second.state == "new" and second.snapshots == {"flights": "s"}
    assert ledger.read(layout)[-1].value == "delay@2"


def test_registering_the_same_result_again_gives_the_same_version(layout: Layout) -> None:
    """Equal fingerprint and bundle: no second line, the first version comes back whole, NaN included."""
    first = ledger.append_version(layout, lambda number: version(number))
    again = ledger.append_version(layout, lambda number: version(number))
    assert replace(again, metrics={}) == replace(first, metrics={})
    assert math.isnan(again.metrics["odd"]) and again.metrics["auc"] == 0.7
    assert len(ledger.read(layout)) == 1


def test_a_new_version_starts_as_new(layout: Layout) -> None:
    """A state change may expect `new` although no line set a state yet."""
    made = ledger.append_version(layout, lambda number: version(number))
    ledger.append(layout, events.STATE, made.id, "approved", expect="new")
    with pytest.raises(Conflict):
        ledger.append(layout, events.STATE, made.id, "rejected", expect="new")


@pytest.mark.parametrize("change", ["alter", "remove", "swap", "insert"])
def test_every_kind_of_tampering_is_found(layout: Layout, change: str) -> None:
    """A changed, removed, reordered or added line breaks the chain."""
    for number in range(4):
        ledger.append(layout, events.ALIAS, "delay@champion", f"delay@{number}")
    lines = layout.ledger.read_text().splitlines(keepends=True)
    if change == "alter":
        lines[1] = lines[1].replace("delay@1", "delay@9")
    elif change == "remove":
        del lines[1]
    elif change == "swap":
        lines[1], lines[2] = lines[2], lines[1]
    else:
        lines.insert(2, lines[1])
    layout.ledger.write_text("".join(lines))
    assert ledger.verify(layout)


def test_a_line_in_the_middle_that_cannot_be_read_is_an_error(layout: Layout) -> None:
    """It is not skipped: whoever reads decisions must know that one is missing."""
    ledger.append(layout, events.ALIAS, "a@x", "1")
    ledger.append(layout, events.ALIAS, "a@x", "2")
    text = layout.ledger.read_text()
    layout.ledger.write_text("{" + text)
    with pytest.raises(IntegrityError, match="line 1"):
        ledger.read(layout)
    assert any("cannot be read" in problem for problem in ledger.verify(layout))


@pytest.mark.parametrize("odd", [b"123", b'["a"]', b'{"seq":1}', b'"a"'])
def test_json_that_is_no_decision_is_damage(layout: Layout, odd: bytes) -> None:
    """As a line that is no JSON is."""
    layout.ledger.write_bytes(odd + b"\n")
    with pytest.raises(IntegrityError, match="line 1"):
        ledger.read(layout)
    assert ledger.verify(layout) == ["ledger line 1 cannot be read"]


def test_an_altered_decision_is_damage_to_who_goes_by_it(layout: Layout) -> None:
    """Its line is named; it is no bug of whoever meets it."""
    ledger.append_version(layout, version)
    ledger.append(layout, events.ALIAS, "a@x", "1")
    layout.ledger.write_text(layout.ledger.read_text().replace('"fingerprint"', '"fingerqrint"'))
    with pytest.raises(IntegrityError, match="line 1 of the ledger"):
        registry.load(layout)


PROMOTE = """
import sys
from pathlib import Path
from mlops_local.domain import events
from mlops_local.domain.errors import Conflict
from mlops_local.store import ledger, registry
from mlops_local.store.layout import Layout
layout = Layout(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
try:
    ledger.append(layout, events.ALIAS, "delay@champion", sys.argv[2], expect="delay@1", actor=sys.argv[2])
    print("won")
except Conflict as conflict:
    print(conflict.message)
"""


def test_of_two_promoters_at_once_one_wins_and_the_other_is_told(layout: Layout, start: Start) -> None:
    """Two processes replace the same champion at the same moment: one line is written, the loser reads who won."""
    ledger.append(layout, events.ALIAS, "delay@champion", "delay@1")
    both = [start(PROMOTE, name) for name in ("delay@2", "delay@3")]
    for process in both:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in both:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=60)[0].strip() for process in both]
    winner = ledger.read(layout)[-1].value
    assert sorted(text == "won" for text in said) == [False, True]
    loser = next(text for text in said if text != "won")
    assert loser.startswith(f"delay@champion is {winner}, not delay@1: {winner} on ")
    assert len(ledger.read(layout)) == 2 and ledger.verify(layout) == []


MANY = """
import sys
from pathlib import Path
from mlops_local.store import ledger, registry
from mlops_local.store.layout import Layout
for number in range(20):
    ledger.append(Layout(Path(sys.argv[1])), "deployment", sys.argv[2], str(number))
"""


def test_many_processes_append_in_one_order(layout: Layout, start: Start) -> None:
    """Four processes appending at once give one unbroken chain with each one's lines in its order."""
    running = [start(MANY, name) for name in "abcd"]
    for process in running:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
    lines = ledger.read(layout)
    assert ledger.verify(layout) == [] and [line.seq for line in lines] == list(range(1, 81))
    for name in "abcd":
        assert [line.value for line in lines if line.subject == name] == [str(number) for number in range(20)]


FULL = """
import resource, sys
from pathlib import Path
from mlops_local.store import ledger, registry
from mlops_local.store.layout import Layout
layout = Layout(Path(sys.argv[1]))
ledger.append(layout, "alias", "a@x", "1")
resource.setrlimit(resource.RLIMIT_FSIZE, (layout.ledger.stat().st_size + 100,) * 2)
try:
    ledger.append(layout, "alias", "a@x", "2")
except Exception as error:
    print(type(error).__name__, error)
"""


def test_a_full_disk_leaves_no_half_decision(layout: Layout, start: Start) -> None:
    """The decider is told; the ledger is as it was."""
    out, err = start(FULL).communicate(timeout=60)
    assert out.startswith("Unwritable no space left"), err
    assert layout.ledger.read_bytes().endswith(b"\n")
    assert [line.value for line in ledger.read(layout)] == ["1"] and ledger.verify(layout) == []
