"""Edits made by a machine, judged by running the code: a fingerprint that stays while the result changes is a wrong hit."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from mlops_local.domain.graph import Graph, Step, Symbol
from mlops_local.engines.pipeline import fingerprint as fingerprints
from mlops_local.engines.pipeline.sources import SourceFile, discover
from mlops_local.worker.finder import Finder

STEPS = ("plain", "objects", "registered", "grouped")
PROJECT = {
    "pipeline.py": '''
import functools
import operator as op
import shop.prices as prices
import shop.tools
from shop import rounded as shorten, Basket
from shop.limits import *
from shop.registry import RULES, rule

RATE = 3
WORDS = {"a": 1, "b": 2}
add = functools.partial(op.add, 7)
if RATE > 2:
    def bonus(x):
        return x + 10
else:
    def bonus(x):
        return x + 20
try:
    import nothing_like_it
except ImportError:
    nothing_like_it = 5

@rule("double")
def double(x, by=2):
    return x * by

@rule("last")
def last(x):
    return x - 9

def plain(rows):
    """Names, aliases, stars and partials."""
    total = sum(prices.gross(row) * RATE for row in rows)
    return [shorten(total), add(total), TOP, bonus(1), nothing_like_it, shop.tools.clip(total)]

def objects(rows):
    basket = Basket(rows, discount=WORDS["a"])
    return [basket.total(), basket.size, Basket.made, [f(2) for f in (lambda x: x + RATE,)]]

def registered(rows):
    return sorted(f(4) for f in RULES.values())

def grouped(rows, RATE=1):
    def inner(x, top=LOW):
        return x % top if x > RATE else WORDS.get("b", 0)
    return {row: inner(row) for row in rows if row != shop.tools.SKIP}
''',
    "shop/__init__.py": "from .tools import rounded\nfrom .basket import Basket\nVERSION = 4\n",
    "shop/tools.py": """
DIGITS = 1
SKIP = 2
CEILING = 400
def rounded(x):
    return round(x / 7, DIGITS)
def clip(x):
    return min(x, CEILING)
""",
    "shop/prices.py": "from . import limits\nTAX = 19\ndef gross(x):\n    return x * (100 + TAX) // 100 + limits.FEE\n",
    "shop/limits.py": "TOP = 11\nLOW = 3\nFEE = 1\n_HIDDEN = 5\nfor _n in range(2):\n    TOP = TOP + _n\n",
    "shop/basket.py": """
from dataclasses import dataclass, field
from .prices import TAX
@dataclass
class Base:
    size: int = 8
    def scale(self):
        return 2
class Basket(Base):
    made = 6
    def __init__(self, rows, *, discount):
        super().__init__()
        self.rows = rows
        self.discount = discount
    def total(self):
        return sum(self.rows) * self.scale() - self.discount + TAX
    def unused(self):
        return 12
""",
    "shop/registry.py": """
RULES = {}
def rule(name):
    def keep(function):
        RULES[name] = function
        return function
    return keep
rule("shift")(lambda x: x + 3)
""",
}


class Mutant(ast.NodeTransformer):
    """Changes the n-th place that can be changed: a number, an operator, a comparison."""

    def __init__(self, number: int) -> None:
        self.left = number
        self.done = ""

    def _turn(self) -> bool:
        self.left -= 1
        return self.left == -1

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if type(node.value) is int and self._turn():
            self.done = f"line {node.lineno}: {node.value} -> {node.value + 1}"
            return ast.copy_location(ast.Constant(node.value + 1), node)
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        swaps = {ast.Add: ast.Sub(), ast.Sub: ast.Add(), ast.Mult: ast.Add(), ast.Mod: ast.Mult(), ast.FloorDiv: ast.Mult()}
        if type(node.op) in swaps and self._turn():
            self.done = f"line {node.lineno}: {type(node.op).__name__}"
            node.op = swaps[type(node.op)]
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.ops[0], (ast.Gt, ast.NotEq)) and self._turn():
            self.done = f"line {node.lineno}: {type(node.ops[0]).__name__}"
            node.ops[0] = ast.LtE() if isinstance(node.ops[0], ast.Gt) else ast.Eq()
        return node


def mutants() -> Iterator[tuple[str, dict[str, str]]]:
    for path, text in PROJECT.items():
        number = 0
        while True:
            mutant = Mutant(number)
            tree = ast.fix_missing_locations(mutant.visit(ast.parse(text)))
            if not mutant.done:
                break
            yield f"{path} {mutant.done}", {**PROJECT, path: ast.unparse(tree)}
            number += 1


def sources_of(files: Mapping[str, str]) -> dict[str, SourceFile]:
    return discover("pipeline.py", lambda path: files[path].encode() if path in files else None)


def results(sources: Mapping[str, SourceFile]) -> dict[str, str]:
    """What every step gives on the probe rows, or how it fails."""
    finder = Finder(Path("/nowhere"), sources, report=False)
    before = set(sys.modules)
    sys.meta_path.insert(0, finder)
    try:
        import importlib

        module = importlib.import_module("pipeline")
        return {name: attempt(getattr(module, name)) for name in STEPS}
    except Exception as error:  # noqa: BLE001 - a mutant may fail to import in any way, and then every step does
        return dict.fromkeys(STEPS, repr(error))
    finally:
        sys.meta_path.remove(finder)
        for name in set(sys.modules) - before:
            del sys.modules[name]


def attempt(function: object) -> str:
    assert callable(function)
    try:
        return repr(function([1, 2, 3, 50]))
    except Exception as error:  # noqa: BLE001 - as above
        return repr(error)


def made(sources: Mapping[str, SourceFile]) -> dict[str, str]:
    graph = Graph(steps=tuple(Step(name, "step", (Symbol("pipeline", name),)) for name in STEPS))
    return {
        step.name: fingerprints.fingerprint(step, fingerprints.parts(step, graph, sources), {}, {})[0] for step in graph.steps
    }


def test_no_mutation_that_changes_a_result_keeps_its_fingerprint() -> None:
    """Every number and operator of a project is changed in turn: zero wrong hits, and most untouched steps stay fresh."""
    original = sources_of(PROJECT)
    outputs, prints = results(original), made(original)
    count = fresh = kept = 0
    told = []
    for what, files in mutants():
        sources = sources_of(files)
        now, after = results(sources), made(sources)
        for name in STEPS:
            count += 1
            if now[name] != outputs[name] and after[name] == prints[name]:
                told.append(f"{what}: {name}: {outputs[name]} -> {now[name]}")
            if now[name] == outputs[name]:
                kept += 1
                fresh += after[name] == prints[name]
    assert not told, "\n".join(told)
    assert count > 150
    assert fresh / kept > 0.7, f"{fresh} of {kept} steps whose result did not change stayed fresh"
