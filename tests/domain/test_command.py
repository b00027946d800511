"""A command step as it is declared."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mlops_local.domain.command import command, filled, literal, placeholders
from mlops_local.domain.errors import ConfigError


def test_single_inputs_and_outputs_get_their_names() -> None:
    """One input is `input`, one output `output`, a list of names stands for itself."""
    made = command("run {input} {output}", inputs="flights", outputs="out.csv", code="run.py")
    assert made.inputs == {"input": "flights"} and made.outputs == {"output": "out.csv"} and made.code == ("run.py",)
    assert command("run {a} {b}", inputs=["a", "b"], outputs="x").inputs == {"a": "a", "b": "b"}


def test_placeholders_are_filled_once() -> None:
    """A value that looks like a placeholder stays as it is."""
    assert placeholders("x {a:csv} --k={b}") == [("a", "csv"), ("b", "")]
    assert filled("x {a:csv} --k={b}", {"a": "{b}", "b": "1"}) == "x {b} --k=1"


@given(st.text("{}a:b $", max_size=12))
@example("{{a}}")
@example("{a}{b:csv}")
def test_a_literal_text_is_filled_with_itself(text: str) -> None:
    """What is put into a line as literal text asks for nothing and comes out as it was, whatever braces it has."""
    assert placeholders(literal(text)) == []
    assert filled(literal(text), {}) == text


def test_braces_in_braces_are_no_placeholder() -> None:
    """`{{name}}` in a line stands for `{name}`; braces around more than a word stand for themselves."""
    line = "awk '{print $1}' --like={{a}} {a} {{a:csv}}"
    assert placeholders(line) == [("a", "")]
    assert filled(line, {"a": "1"}) == "awk '{print $1}' --like={a} 1 {a:csv}"


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({"line": " ", "outputs": "x"}, "expected the command line"),
        ({"line": "run", "outputs": None}, "no outputs"),
        ({"line": "run {inptu}", "outputs": "x"}, "{inptu} is no input"),
        ({"line": "run {input:xlsx}", "inputs": "a", "outputs": "x"}, "can be asked for as parquet, csv, json"),
        ({"line": "run", "outputs": "../x"}, "below the project"),
        ({"line": "run", "outputs": "/etc/x"}, "below the project"),
        ({"line": "run", "outputs": {"k": "x"}, "params": {"k": 1}}, "'k' is there twice"),
        ({"line": "run", "outputs": {"a b": "x"}}, "is no name"),
        ({"line": "run", "outputs": "x", "params": {"k": object()}}, "numbers, texts"),
        ({"line": "run", "outputs": "x", "code": ["/etc/passwd"]}, "relative to the project"),
        ({"line": "run", "outputs": "x", "cpus": -1}, "cpus"),
    ],
)
def test_what_cannot_be_is_said(declared: dict[str, Any], said: str) -> None:
    """Each mistake is one sentence that names it."""
    with pytest.raises(ConfigError) as caught:
        command(**declared)
    assert said in caught.value.message
