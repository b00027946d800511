"""The graph as DOT and Mermaid."""

from __future__ import annotations

import re

import pytest

from mlops_local.cli import pictures
from mlops_local.domain.plan import Dag, Node

NAMES = ["plain", 'a"b', "back\\slash", "new\nline", "end", "x;y#z", "<b>", "ä ö", "a[b](c){d}|e|"]


def _dag(name: str) -> Dag:
    source = Node("rows", "source", "fresh", about="data/*.csv")
    return Dag((source, Node(name, "step", "stale", (("rows", ""), ("rows", "train")))), (name,))


@pytest.mark.parametrize("name", NAMES)
def test_dot_is_valid_whatever_a_name_holds(name: str) -> None:
    """Every line is an attribute, a node or an edge of quoted names; an edge names the output it carries."""
    quoted = r'"(?:[^"\\\n]|\\.)*"'
    lines = pictures.dot(_dag(name)).splitlines()
    assert lines[0] == "digraph pipeline {" and lines[-1] == "}"
    for line in lines[3:-1]:
        assert re.fullmatch(rf"  {quoted}( -> {quoted})?( \[[a-z]+=({quoted}|\w+)(, [a-z]+=({quoted}|\w+))*\])?;", line), line
    assert sum("->" in line for line in lines) == 2 and '[label="train"]' in lines[-2]


@pytest.mark.parametrize("name", NAMES)
def test_mermaid_is_valid_whatever_a_name_holds(name: str) -> None:
    """Nodes have ids of our own, labels no sign that Mermaid would read."""
    lines = pictures.mermaid(_dag(name)).splitlines()
    assert lines[0] == "flowchart TD"
    label = r'"[\w ._/#;<>-]*"'
    for line in lines[1:5]:
        assert re.fullmatch(rf"  n\d+(\[\(?{label}\)?\]:::\w+| -->(\|{label}\|)? n\d+)", line), line
    assert lines[3:5] == ["  n0 --> n1", '  n0 -->|"train"| n1']
