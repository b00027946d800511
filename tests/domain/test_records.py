"""Cheap dataclasses are dataclasses: whatever can be done with one gives what the standard library gives."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from dataclasses import asdict, field, fields, replace
from functools import cached_property, partial
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_local.domain import records


def declared(dataclass: Any, *, frozen: bool) -> type[Any]:
    """The same class, by one decorator or the other."""

    @dataclass(frozen=frozen)
    class Base:
        """A base."""

        one: int
        kind: ClassVar[str] = "base"

    @dataclass(frozen=frozen)
    class Record(Base):
        two: str = "two"
        three: list[int] = field(default_factory=list)
        four: float = field(default=0.5, repr=False, compare=False)
        five: int = field(init=False, default=7)

        def __post_init__(self) -> None:
            object.__setattr__(self, "five", self.five + 1)

        @cached_property
        def doubled(self) -> int:
            return 2 * self.one

    return Record


SORTS = [
    (declared(dataclasses.dataclass, frozen=frozen), declared(records.dataclass, frozen=frozen)) for frozen in (True, False)
]
both = pytest.mark.parametrize(("original", "cheap"), SORTS)


def outcome(call: Callable[[], Any]) -> Any:
    """What a call gives, or the kind of its error and its words."""
    try:
        return call()
    except (TypeError, AttributeError) as error:
        return type(error), str(error)


arguments = st.tuples(
    st.lists(st.one_of(st.integers(), st.text(max_size=3)), max_size=6),
    st.dictionaries(st.sampled_from(["one", "two", "three", "four", "five", "six"]), st.integers(), max_size=3),
)


@both
@given(given=arguments, other=arguments)
def test_making_printing_and_comparing(original: Any, cheap: Any, given: Any, other: Any) -> None:
    """Every call makes the same or fails with the same words; equal ones are equal, and look the same."""
    made = []
    for kind in (original, cheap):
        first, second = (outcome(partial(kind, *values, **named)) for values, named in (given, other))
        made.append((repr(first), repr(second), first == second, first != other, first == copy.copy(first)))
    assert made[0] == made[1]


@both
def test_what_the_standard_library_does_with_one(original: Any, cheap: Any) -> None:
    """Fields, replacing, unpacking, defaults of their own, and values that are worked out later."""
    for kind in (original, cheap):
        record = kind(1, three=[3])
        assert [item.name for item in fields(kind)] == ["one", "two", "three", "four", "five"]
        assert asdict(record) == {"one": 1, "two": "two", "three": [3], "four": 0.5, "five": 8}
        assert dataclasses.is_dataclass(record) is True
        assert replace(record, one=2) == kind(2, three=[3]) != record
        assert kind(1).three is not kind(1).three and (record.doubled, kind.kind) == (2, "base")
        match record:
            case kind(one, two):
                assert (one, two) == (1, "two")
            case _:
                pytest.fail("its positions are unknown")


@both
def test_frozen_ones_cannot_be_changed_and_have_a_hash(original: Any, cheap: Any) -> None:
    """Setting and deleting fail with the same error; one that can be changed has no hash."""
    answers = []
    for kind in (original, cheap):
        record = kind(1)
        answers.append([outcome(partial(setattr, record, "one", 2)), outcome(partial(delattr, record, "one"))])
    assert answers[0] == answers[1]
    assert (cheap.__hash__ is None) == (original.__hash__ is None)


@records.dataclass(frozen=True)
class Kept:
    """One that travels."""

    one: int
    two: tuple[int, ...] = ()


def test_hashes_follow_equality_and_copies_are_equal() -> None:
    """As keys of a dict, pickled and copied."""
    assert {Kept(1): "a", Kept(2): "b"}[Kept(2)] == "b"
    assert pickle.loads(pickle.dumps(Kept(1, (2,)))) == copy.deepcopy(Kept(1, (2,))) == Kept(1, (2,))


def test_own_methods_stay() -> None:
    """What a class defines itself is not replaced."""

    @records.dataclass
    class Own:
        one: int = 1

        def __eq__(self, other: object) -> bool:
            return True

        def __repr__(self) -> str:
            return "own"

    assert Own(1) == 5 and repr(Own()) == "own" and Own.__hash__ is None
