"""Hundreds of edits of small projects, judged by running them: with the cache every step gives what it gives without it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from tests.mutation.edits import Edit, generated
from tests.mutation.hand import by_hand
from tests.mutation.oracle import Oracle, Version, outlined, sources_of
from tests.mutation.shapes import SHAPES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # whichever comes first runs every edit
EVERY_NTH_MUTANT = 3
"""Of the mutants; all of them say the same and take twice as long."""


@dataclass
class Score:
    """What the suite counts."""

    edits: int = 0
    must: int = 0
    wrong: list[str] = field(default_factory=list)
    needless: list[str] = field(default_factory=list)
    cautious: int = 0
    unproven: int = 0
    """Steps that ran again after a change of meaning that these probe inputs do not show."""
    refused: int = 0
    harmless: list[str] = field(default_factory=list)
    """Edits made to be caught that no output shows: they prove nothing."""
    families: dict[str, int] = field(default_factory=dict)

    def text(self) -> str:
        """What the suite prints."""
        return (
            f"\n{self.edits} edits of {len(SHAPES)} shapes ({self.refused} more cannot be imported); "
            f"steps that must run: {self.must}\n"
            f"wrong hits: {len(self.wrong)}; needless reruns after neutral edits: {len(self.needless)}; "
            f"cautious reruns of dynamic code: {self.cautious}; reruns no probe could prove: {self.unproven}\n"
            + "; ".join(f"{family} {count}" for family, count in self.families.items())
            + "\n"
        )

    def good(self) -> bool:
        """Whether nothing stale was used and nothing ran for nothing."""
        return not self.wrong and not self.needless


Stale = Callable[[Version, Version, str], bool]


def by_fingerprint(before: Version, after: Version, name: str) -> bool:
    return before.prints[name] != after.prints[name]


def judge(runs: list[tuple[Edit, Version, Version | None]], stale: Stale) -> Score:
    """Compare what the analysis says with what running showed."""
    score = Score()
    for edit, before, after in runs:
        if after is None:
            score.refused += 1
            continue
        score.edits += 1
        score.families[edit.family] = score.families.get(edit.family, 0) + 1
        if edit.family == "made to be caught" and before.outputs == after.outputs:
            score.harmless.append(f"{edit.shape.name}: {edit.what}")
        for name, output in before.outputs.items():
            differs, runs_again = output != after.outputs[name], stale(before, after, name)
            told = f"{edit.shape.name}: {edit.what}: {name}: {output[:80]} -> {after.outputs[name][:80]}"
            score.must += differs
            if differs and not runs_again:
                score.wrong.append(told)
            elif runs_again and not differs and edit.shape.dynamic:
                score.cautious += 1
            elif runs_again and not differs and edit.neutral:
                score.needless.append(told)
            elif runs_again and not differs:
                score.unproven += 1
    return score


def edits() -> Iterator[Edit]:
    for shape in SHAPES:
        made = list(generated(shape))
        yield from (edit for edit in made if edit.neutral)
        yield from [edit for edit in made if not edit.neutral][::EVERY_NTH_MUTANT]
    yield from by_hand()


@pytest.fixture(scope="module")
def runs() -> Iterator[list[tuple[Edit, Version, Version | None]]]:
    oracle = Oracle()
    originals: dict[str, Version] = {}
    done = []
    try:
        for edit in edits():
            shape = edit.shape
            if shape.name not in originals:
                original = oracle.run(shape, dict(shape.files), shape.entry)
                assert original is not None, f"{shape.name} does not import"
                originals[shape.name] = original
            done.append((edit, originals[shape.name], oracle.run(shape, dict(edit.files), edit.entry or shape.entry)))
        yield done
    finally:
        oracle.close()


def test_with_the_cache_every_step_gives_what_it_gives_without(
    runs: list[tuple[Edit, Version, Version | None]], capsys: pytest.CaptureFixture[str]
) -> None:
    """No edit is missed where it changes an output or an error, and none that changes nothing runs a step again."""
    score = judge(runs, by_fingerprint)
    with capsys.disabled():
        sys.stdout.write(score.text())
    assert not score.wrong, "\n".join(score.wrong)
    assert not score.needless, "\n".join(score.needless)
    assert score.edits >= 300
    assert not score.harmless, "\n".join(score.harmless)
    assert score.families["mutation operators"] >= 100


def test_versions_of_one_outline_are_the_same_to_import(runs: list[tuple[Edit, Version, Version | None]]) -> None:
    """Where only bodies changed that importing does not run, the project is imported to the same values."""
    same = 0
    for edit, before, after in runs:
        known = after.outline if after is not None else outlined(sources_of(edit.files, edit.entry or edit.shape.entry))
        if before.outline and known == before.outline:
            same += 1
            assert after is not None and after.values == before.values, f"{edit.shape.name}: {edit.what}"
    assert same >= 100


def test_suite_would_find_an_analysis_that_says_the_same_of_everything(
    runs: list[tuple[Edit, Version, Version | None]],
) -> None:
    """ "Everything is stale" and "everything is fresh" both fail, in every shape."""
    for shape in SHAPES:
        own = [run for run in runs if run[0].shape is shape]
        assert judge(own, lambda *_: False).wrong, shape.name
        stale = judge(own, lambda *_: True)
        assert stale.needless or shape.dynamic, shape.name
    assert not judge(runs, lambda *_: True).good()
    assert not judge(runs, lambda *_: False).good()
