"""The graph for programs that draw: Graphviz's DOT and Mermaid. Text in, text out; any name is safe in both."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlops_local.domain.plan import Dag, Node

_COLORS = {"fresh": "#d9ead3", "stale": "#fff2cc", "blocked": "#f4cccc", "source": "#dbe8f7"}


def dot(dag: Dag) -> str:
    """The graph in DOT, from the data down to the targets."""
    lines = ["digraph pipeline {", "  rankdir=TB;", '  node [style=filled, fontname="sans-serif", shape=box];']
    for node in dag.nodes:
        shape = "cylinder" if node.kind == "source" else "box"
        label = f"{_dot(node.name)}\\n{_dot(_below(node))}"
        lines.append(f'  "{_dot(node.name)}" [label="{label}", shape={shape}, fillcolor="{_COLORS[_look(node)]}"];')
    for node in dag.nodes:
        for name, part in node.inputs:
            label = f' [label="{_dot(part)}"]' if part else ""
            lines.append(f'  "{_dot(name)}" -> "{_dot(node.name)}"{label};')
    return "\n".join([*lines, "}", ""])


def mermaid(dag: Dag) -> str:
    """The graph as a Mermaid flowchart, as README files on code hosts draw it."""
    numbers = {node.name: f"n{number}" for number, node in enumerate(dag.nodes)}
    lines = ["flowchart TD"]
    for node in dag.nodes:
        opening, closing = ("[(", ")]") if node.kind == "source" else ("[", "]")
        label = f"{_mermaid(node.name)}<br/>{_mermaid(_below(node))}"
        lines.append(f'  {numbers[node.name]}{opening}"{label}"{closing}:::{_look(node)}')
    for node in dag.nodes:
        for name, part in node.inputs:
            label = f'|"{_mermaid(part)}"|' if part else ""
            lines.append(f"  {numbers[name]} -->{label} {numbers[node.name]}")
    lines += [f"  classDef {name} fill:{color},stroke:#666,color:#111" for name, color in _COLORS.items()]
    return "\n".join([*lines, ""])


def _look(node: Node) -> str:
    return "source" if node.kind == "source" and node.state == "fresh" else node.state


def _below(node: Node) -> str:
    return node.about if node.kind == "source" else node.state


def _dot(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")


def _mermaid(text: str) -> str:
    """Everything that has a meaning of its own, as a number; Mermaid writes entities with # instead of &#."""
    return "".join(c if c.isalnum() or c in " ._-/" else f"#{ord(c)};" for c in text)
