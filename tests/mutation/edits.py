"""Edits of the shapes: neutral ones that a person or a formatter makes, and those made by the mutation operators."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.mutation.operators import mutants
from tests.mutation.shapes import Shape

Files = Mapping[str, str]
LOCALS = 3
"""Local variables renamed in each file."""


@dataclass(frozen=True)
class Edit:
    """One edited version of a shape."""

    shape: Shape
    family: str
    what: str
    files: Files
    neutral: bool = False
    """It changes nothing that can be observed: outside dynamic code no step may run again."""
    entry: str = ""


def generated(shape: Shape) -> Iterator[Edit]:
    """Every edit that can be made without knowing the shape."""
    for family, edit in NEUTRAL.items():
        for what, files in edit(shape):
            if dict(files) != dict(shape.files):
                yield Edit(shape, family, f"{family}{': ' if what else ''}{what}", files, neutral=True)
    for path, text in shape.files.items():
        for what, changed in mutants(text):
            yield Edit(shape, "mutation operators", f"{path} {what}", {**shape.files, path: changed})


# Neutral edits


def _each(change: Callable[[str], str]) -> Callable[[Shape], Iterator[tuple[str, Files]]]:
    """All files changed the same way."""
    return lambda shape: iter([("", {path: change(text) for path, text in shape.files.items()})])


def _comments(text: str) -> str:
    return re.sub(r"^( *)((def|class|@|return|for|if) ?.*)$", r"\1# a comment\n\1\2  # another", text, flags=re.M) + "\n# end\n"


def _docstrings(text: str) -> str:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Module)):
            doc = ast.Expr(ast.Constant("Words that were not there before."))
            node.body[:] = [doc, *node.body[1:]] if ast.get_docstring(node) else [doc, *node.body]
    return ast.unparse(ast.fix_missing_locations(tree))


def _black(length: int) -> Callable[[str], str]:
    def change(text: str) -> str:
        import black

        formatted: str = black.format_str(text, mode=black.Mode(line_length=length, magic_trailing_comma=False))
        return formatted

    return change


def _isort(**settings: Any) -> Callable[[str], str]:
    def change(text: str) -> str:
        import isort

        return str(isort.code(text, **settings))

    return change


def _ruff(*arguments: str) -> Callable[[Shape], Iterator[tuple[str, Files]]]:
    """All files in one call: starting it takes longer than formatting."""

    def changed(shape: Shape) -> Iterator[tuple[str, Files]]:
        with tempfile.TemporaryDirectory() as folder:
            written = {path: Path(folder, path) for path in shape.files}
            for path, file in written.items():
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(shape.files[path])
            command = [sys.executable, "-m", "ruff", *arguments, "--isolated", "--no-cache", folder]
            subprocess.run(command, capture_output=True, check=True)
            yield "", {path: file.read_text() for path, file in written.items()}

    return changed


class _Rename(ast.NodeTransformer):
    """One local variable of one function, under another name."""

    def __init__(self, old: str) -> None:
        self.old = old

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.copy_location(ast.Name(f"new_{node.id}", node.ctx), node) if node.id == self.old else node

    def visit_Nonlocal(self, node: ast.Nonlocal) -> ast.AST:
        return ast.Nonlocal([f"new_{name}" if name == self.old else name for name in node.names])

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.AST:
        self.generic_visit(node)
        node.name = f"new_{node.name}" if node.name == self.old else node.name
        return node


def locals_renamed(shape: Shape) -> Iterator[tuple[str, Files]]:
    """The first local variables of each file, one at a time."""
    for path, text in shape.files.items():
        for what in _locals(text)[:LOCALS]:
            tree = ast.parse(text)
            for node in ast.walk(tree):
                if isinstance(node, ast.FunctionDef) and (node.name, node.lineno) == what[:2]:
                    node.body = [_Rename(what[2]).visit(item) for item in node.body]
            yield f"{path} {what[0]}.{what[2]}", {**shape.files, path: ast.unparse(ast.fix_missing_locations(tree))}


def _locals(text: str) -> list[tuple[str, int, str]]:
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            parts = [item for statement in node.body for item in ast.walk(statement)]
            outside = {name for item in parts if isinstance(item, (ast.Nonlocal, ast.Global)) for name in item.names}
            taken = outside | {item.arg for item in ast.walk(node) if isinstance(item, ast.arg)}
            stored = {item.id: None for item in parts if isinstance(item, ast.Name) and isinstance(item.ctx, ast.Store)}
            if not outside or any(isinstance(item, ast.FunctionDef) for item in parts):
                taken -= {item for item in outside if item in stored}
            found += [(node.name, node.lineno, name) for name in stored if name not in taken]
    return found


def hints(shape: Shape) -> Iterator[tuple[str, Files]]:
    """A return annotation on every plain function, then one on every argument, then one on every local."""
    for what in ("returns", "arguments", "locals"):
        yield what, {path: _hinted(text, what) for path, text in shape.files.items()}


def _hinted(text: str, what: str) -> str:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef) or node.decorator_list:
            continue
        if what == "returns":
            node.returns = node.returns or ast.Name("object")
        elif what == "arguments":
            for argument in [*node.args.args, *node.args.kwonlyargs]:
                argument.annotation = ast.Name("object")
        else:
            node.body = [_annotated(item) for item in node.body]
    return ast.unparse(ast.fix_missing_locations(tree))


def _annotated(node: ast.stmt) -> ast.stmt:
    if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
        return ast.AnnAssign(node.targets[0], ast.Name("object"), node.value, 1)
    return node


def reordered(shape: Shape) -> Iterator[tuple[str, Files]]:
    """Neighbouring functions changing places."""
    for path, text in shape.files.items():
        tree = ast.parse(text)
        for position, (one, other) in enumerate(zip(tree.body, tree.body[1:], strict=False)):
            plain = all(isinstance(item, ast.FunctionDef) and not item.decorator_list for item in (one, other))
            if plain and all(not item.args.defaults for item in (one, other) if isinstance(item, ast.FunctionDef)):
                swapped = [*tree.body[:position], other, one, *tree.body[position + 2 :]]
                yield f"{path} line {one.lineno}", {**shape.files, path: ast.unparse(ast.Module(swapped, []))}


def additions(shape: Shape) -> Iterator[tuple[str, Files]]:
    """Names nobody uses."""
    for what, text in {
        "function": "def brand_new(x, y=1):\n    return x + y\n",
        "class": "class BrandNew:\n    size = 3\n    def run(self):\n        return self.size\n",
        "constants": 'BRAND_NEW = 5\nBRAND_LIST = [1, "a", {"b": 2}]\nBRAND_SORTED = sorted(BRAND_LIST[:1])\n',
        "import": "import json as brand_json\nfrom fractions import Fraction as BrandFraction\n",
        "path and logger": "import logging\nfrom pathlib import Path\nBRAND_LOG = logging.getLogger(__name__)\n"
        "BRAND_PATH = Path(__file__).parent / 'x'\n",
        "main guard": 'if __name__ == "__main__":\n    print(1)\n',
        "type checking": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from decimal import Decimal\n",
    }.items():
        named = {path: re.sub("BRAND|Brand|brand", rf"\g<0>{number}", text) for number, path in enumerate(shape.files)}
        yield what, {path: old + "\n" + named[path] for path, old in shape.files.items()}


def unused_changed(shape: Shape) -> Iterator[tuple[str, Files]]:
    """What no step uses, under another name, and gone."""
    for path, name in shape.unused:
        yield f"{path} {name} renamed", {**shape.files, path: re.sub(rf"\b{name}\b", f"{name}_other", shape.files[path])}
        tree = ast.parse(shape.files[path])
        tree.body = [node for node in tree.body if name not in ast.unparse(node).partition("\n")[0]]
        yield f"{path} {name} gone", {**shape.files, path: ast.unparse(tree)}


def _formatters() -> dict[str, Callable[[Shape], Iterator[tuple[str, Files]]]]:
    """Real formatters: ruff always, black and isort where they are installed."""
    found = {
        "ruff format": _ruff("format", "--line-length", "40"),
        "ruff isort": _ruff("check", "--select", "I", "--fix", "--quiet"),
    }
    if importlib.util.find_spec("black") is not None:
        found |= {"black": _each(_black(88)), "black, narrow": _each(_black(30))}
    if importlib.util.find_spec("isort") is not None:
        found |= {
            "isort": _each(_isort(profile="black")),
            "isort, one a line": _each(_isort(force_single_line=True, line_length=30)),
        }
    return found


NEUTRAL: dict[str, Callable[[Shape], Iterator[tuple[str, Files]]]] = {
    "comments": _each(_comments),
    "docstrings": _each(_docstrings),
    "printed from the tree": _each(lambda text: ast.unparse(ast.parse(text))),
    **_formatters(),
    "local renamed": locals_renamed,
    "type hints": hints,
    "functions reordered": reordered,
    "unrelated names added": additions,
    "unrelated names changed": unused_changed,
}
