"""What may serve, what a target means, and when a decision in the ledger is followed."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops_local.domain.assets import Column, ModelVersion
from mlops_local.domain.errors import IntegrityError, UsageError
from mlops_local.domain.events import ALIAS
from mlops_local.services import serve
from mlops_local.services.following import Swap, Watcher
from mlops_local.services.serve import Serving, Target
from mlops_local.store import ledger, registry
from mlops_local.store.layout import Layout, create


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    (tmp_path / "mlops.toml").write_text("")
    made = Layout(tmp_path)
    create(made)
    return made


def register(layout: Layout, model: str) -> str:
    """A version whose bundle is not in the store."""
    number = len(registry.load(layout).versions)
    return ledger.append_version(
        layout,
        lambda given: ModelVersion(
            id=f"{model}@{given}", model=model, number=given, candidate="gbm", run="", fingerprint=f"f{number}",
            bundle={"manifest.json": "ab" * 32}, bundle_hash=f"b{number}", predictions="", evaluation="",
            metric="auc", value=0.7,
        ),
    ).id  # fmt: skip


@pytest.mark.parametrize(
    ("text", "target"),
    [("delay", Target("delay")), ("delay@shadow", Target("delay", "shadow")), ("delay@12", Target("delay", "", 12))],
)
def test_parse(text: str, target: Target) -> None:
    """MODEL means its champion, MODEL@ALIAS that alias, MODEL@NUMBER one version for good; each prints as it is written."""
    assert serve.parse(text) == target
    assert serve.parse(str(target)) == target


@pytest.mark.parametrize("text", ["@champion", "delay@"])
def test_parse_nonsense(text: str) -> None:
    """A reference without a model or with nothing after the @ is a usage error."""
    with pytest.raises(UsageError):
        serve.parse(text)


def test_choose(layout: Layout) -> None:
    """The only model is served without being named; of several the configured one; else the user is asked to name one."""
    with pytest.raises(UsageError, match="no model to serve yet") as nothing:
        serve.choose(layout, "")
    assert "mlops train" in nothing.value.hint
    register(layout, "delay")
    assert serve.choose(layout, "") == Target("delay")
    register(layout, "price")
    with pytest.raises(UsageError, match="several models: delay, price"):
        serve.choose(layout, "")
    assert serve.choose(layout, "", configured="price") == Target("price")
    assert serve.choose(layout, "delay@1", configured="price") == Target("delay", "", 1)
    with pytest.raises(UsageError, match="no version of a model 'dealy'") as unknown:
        serve.choose(layout, "dealy")
    assert "delay, price" in unknown.value.hint


def test_no_champion_and_no_such_version(layout: Layout) -> None:
    """Without a champion, and for a number that does not exist, the message names what there is."""
    register(layout, "delay")
    with pytest.raises(UsageError, match="delay has no champion yet") as none:
        serve.first(layout, Target("delay"))
    assert "mlops serve delay@1" in none.value.hint
    with pytest.raises(UsageError, match="there is no delay@7") as absent:
        serve.first(layout, Target("delay", "", 7))
    assert "versions 1" in absent.value.hint


def test_missing_object(layout: Layout) -> None:
    """A version whose files are not in the store is refused as an integrity error that names the file."""
    ledger.append(layout, ALIAS, "delay@champion", register(layout, "delay"))
    with pytest.raises(serve.Refused, match=r"incomplete: its manifest.json is not in the store") as refused:
        serve.first(layout, Target("delay"))
    assert (refused.value.exit_code, refused.value.result) == (6, "rejected_integrity")


def test_wanted_follows_the_alias(layout: Layout) -> None:
    """A target means what the alias means now, with the line that decided it, so that a decision taken again is a new one."""
    first, second = register(layout, "delay"), register(layout, "delay")
    seen = []
    for version in (first, second, first):
        ledger.append(layout, ALIAS, "delay@champion", version)
        found, line = serve.wanted(registry.load(layout), Target("delay"))
        assert found is not None
        seen.append((found.id, line))
    assert [version for version, _ in seen] == [first, second, first]
    assert len({line for _, line in seen}) == 3


def columns(**kinds: str) -> tuple[Column, ...]:
    return tuple(Column(name, kind.rstrip("?"), "Float64", nullable=kind.endswith("?")) for name, kind in kinds.items())


@pytest.mark.parametrize(
    ("new", "breaks"),
    [
        (columns(a="integer", b="string"), False),
        (columns(a="integer"), False),
        (columns(a="number", b="string"), False),
        (columns(a="integer", b="string", c="number?"), False),
        (columns(a="integer", b="string", c="number"), True),
        (columns(a="string", b="string"), True),
    ],
)
def test_breaking(new: tuple[Column, ...], breaks: bool) -> None:
    """Only a new required column or another type breaks requests; fewer columns, optional ones and int to float do not."""
    assert bool(serve.breaking(columns(a="integer", b="string"), new)) == breaks


def test_nobody_holds_a_free_port(layout: Layout) -> None:
    """A port nobody listens on has no holder."""
    assert serve.holder(layout, 1) == ""


def test_an_altered_ledger_serves_nothing(layout: Layout) -> None:
    """An alias that was edited in the file names a version that exists; the chain of hashes says it was no decision."""
    first, second = register(layout, "delay"), register(layout, "delay")
    ledger.append(layout, ALIAS, "delay@champion", first)
    text = layout.ledger.read_text()
    line = f'"value":"{first}","reason":""'
    place = text.rindex(line)
    layout.ledger.write_text(text[:place] + line.replace(first, second) + text[place + len(line) :])
    with pytest.raises(IntegrityError, match="damaged ledger: ledger line 3 was altered"):
        serve.first(layout, Target("delay"))


def test_whatever_stops_a_version_from_loading_is_a_rejection(layout: Layout) -> None:
    """An error of the system while a version is checked ends neither the server nor its following of the ledger."""
    (layout.objects / "aa").mkdir()
    first = register(layout, "delay")
    serving = Serving(registry.load(layout).versions[first], None, {}, "", 0.0)  # type: ignore[arg-type]
    odd = ledger.append_version(
        layout,
        lambda given: ModelVersion(
            id=f"delay@{given}", model="delay", number=given, candidate="gbm", run="", fingerprint="odd",
            bundle={"manifest.json": "a" * 300}, bundle_hash="odd", predictions="", evaluation="", metric="auc", value=0.7,
        ),
    )  # fmt: skip
    ledger.append(layout, ALIAS, "delay@champion", odd.id)
    swaps: list[Swap] = []
    watcher = Watcher(layout, Target("delay"), serving, port=0, on_swap=swaps.append)
    watcher.tick()
    assert [(swap.result, swap.version) for swap in swaps] == [("rejected_error", "delay@2")]
    assert "File name too long" in swaps[0].reason
    assert watcher.serving.version.id == "delay@1"
    assert registry.load(layout).deployments[-1].event == "rejected"
