"""Where a parameter of a command goes, and which runs a grid is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_local.domain import grid
from mlops_local.domain.errors import UsageError


def test_values_are_separated_by_commas_outside_brackets_and_quotes() -> None:
    """A list, an object and a quoted text are one value each; an empty value is one too."""
    found = grid.assignments(["lr=.1,.03", "layers=[3,2],[4]", 'name="a,b",c', "empty=", "odd=[1,2", "where=a=b"])
    assert found == {
        "lr": [".1", ".03"],
        "layers": ["[3,2]", "[4]"],
        "name": ['"a,b"', "c"],
        "empty": [""],
        "odd": ["[1,2"],
        "where": ["a=b"],
    }


@pytest.mark.parametrize("texts", [["lr"], ["=1"], ["--lr=1"], ["{lr}=1"], ["lr=1", "lr=2"]])
def test_what_is_no_assignment_is_refused(texts: list[str]) -> None:
    """With what it should look like."""
    with pytest.raises(UsageError) as caught:
        grid.assignments(texts)
    assert "-S" in caught.value.message and "-S" in caught.value.hint


@given(st.dictionaries(st.sampled_from("abcde"), st.lists(st.integers().map(str), min_size=1, max_size=4), max_size=4))
def test_a_grid_is_every_combination_once(values: dict[str, list[str]]) -> None:
    """As many runs as the product of how many values each has; each value of each name in as many as the others."""
    made = grid.combinations(values)
    size = 1
    for texts in values.values():
        size *= len(texts)
    assert len(made) == size and all(list(one) == list(values) for one in made)
    for name, texts in values.items():
        assert sorted(one[name] for one in made) == sorted(texts * (size // len(texts)))


def test_a_slip_of_the_pen_starts_nothing() -> None:
    """More than a thousand runs is an error."""
    with pytest.raises(UsageError, match="more than 1000 runs"):
        grid.combinations({name: [str(value) for value in range(11)] for name in "abc"})


def test_a_value_goes_to_its_place_or_to_the_end() -> None:
    """In every `{name}`, else as an option; true is a bare one and false none; other braces are the command's own."""
    values = {"lr": ".1", "fast": "true", "slow": "False", "words": '"a b"', "depth": "-3"}
    assert grid.command(["sh", "train.sh", "{lr}/{lr}", "{other}", '{"a": 1}'], values) == [
        *["sh", "train.sh", ".1/.1", "{other}", '{"a": 1}'],
        *["--fast", "--words=a b", "--depth=-3"],
    ]


def test_parameters_are_recorded_as_what_they_are() -> None:
    """Numbers, true and false, lists and texts."""
    values = {"lr": ".1", "n": "3", "on": "True", "layers": "[3, 2]", "name": "adam", "quoted": '"3"', "empty": ""}
    assert grid.parameters(values) == {
        "lr": 0.1,
        "n": 3,
        "on": True,
        "layers": [3, 2],
        "name": "adam",
        "quoted": "3",
        "empty": "",
    }
