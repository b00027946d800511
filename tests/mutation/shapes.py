"""Small projects of every sort, each with steps that can be run on probe inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Job:
    """One step of a shape: a function of the probe rows, or of another step's output."""

    module: str
    name: str
    takes: str = ""
    """The step whose output is its input; the probe rows otherwise."""


@dataclass(frozen=True)
class Shape:
    """A project."""

    name: str
    files: Mapping[str, str]
    jobs: tuple[Job, ...]
    dynamic: bool = False
    """Its code cannot be followed everywhere: reruns are cautious, not needless."""
    entry: str = "pipeline.py"
    unused: tuple[tuple[str, str], ...] = field(default=())
    """File and name of what no step uses."""


def _jobs(*names: str, module: str = "pipeline") -> tuple[Job, ...]:
    return tuple(Job(module, name) for name in names)


FLAT = Shape(
    "flat module",
    {
        "pipeline.py": '''
"""A pipeline in one file."""
import math
import operator as op
from functools import reduce

RATE = 3
LOW, HIGH = 1, 60 * 60
WORDS = {"a": 1, "b": 2}
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


def scale(x, by=RATE):
    """Scale."""
    made = x * by
    rest = made % 7
    if rest > 3:
        made = made - rest
    return made


def unused_helper(x):
    return x - 1


def total(rows):
    count = 0
    found = []
    for position, row in enumerate(rows):
        if row > LOW and position != 1:
            count += scale(row)
            found.append(bonus(row))
    while count > HIGH:
        count = count - HIGH
    return [count, found, nothing_like_it]


def grouped(rows, RATE=1):
    def inner(x, top=LOW):
        kept = x % (top + 3) if x > RATE else WORDS.get("b", 0)
        return kept or -1
    table = {row: inner(row) for row in rows if row != 2}
    return [table, reduce(op.add, table.values(), 0), math.floor(sum(table) / len(table))]


def careful(rows):
    try:
        first, *rest = rows
        return first / (rest[0] - 2)
    except ZeroDivisionError as problem:
        return [type(problem).__name__, len(rows) or 1]
    finally:
        del first, rest
'''
    },
    _jobs("total", "grouped", "careful"),
    unused=(("pipeline.py", "unused_helper"),),
)

PACKAGE = Shape(
    "package with re-exports",
    {
        "pipeline.py": """
import shop.prices as prices
import shop.tools
from shop import rounded as shorten, Basket
from shop.limits import FEE as COST

def priced(rows):
    paid = sum(prices.gross(row) for row in rows)
    return [shorten(paid), shop.tools.clip(paid), COST]

def basket(rows):
    held = Basket(rows)
    return [held.total(), len(held.rows)]

def version(rows):
    import shop
    return [shop.VERSION, shop.deep.leaf.value()]
""",
        "shop/__init__.py": '''
"""The shop."""
from .basket import Basket
from .deep import leaf as _leaf
from .tools import rounded
from . import deep

VERSION = 4
''',
        "shop/tools.py": """
DIGITS = 1
CEILING = 400

def rounded(x):
    part = x / 7
    return round(part, DIGITS)

def clip(x):
    return min(x, CEILING)

def unused_tool(x):
    return x + CEILING
""",
        "shop/prices.py": """
from . import limits

TAX = 19

def gross(x):
    net = x * (100 + TAX) // 100
    return net + limits.FEE
""",
        "shop/limits.py": "FEE = 1\nUNUSED_LIMIT = 5\n",
        "shop/basket.py": """
from .prices import TAX

class Basket:
    def __init__(self, rows):
        self.rows = list(rows)

    def total(self):
        return sum(self.rows) - TAX
""",
        "shop/deep/__init__.py": "from . import leaf\n",
        "shop/deep/leaf.py": "from ..limits import FEE as _FEE\nDEPTH = 2\n\ndef value():\n    return DEPTH * 10\n",
    },
    _jobs("priced", "basket", "version"),
    unused=(("shop/tools.py", "unused_tool"), ("shop/limits.py", "UNUSED_LIMIT")),
)

LAYOUT = Shape(
    "src layout",
    {
        "src/flights/__init__.py": "",
        "src/flights/pipeline.py": """
from flights.steps import clean
from flights.steps.join import joined as merged
from flights import settings

def cleaned(rows):
    kept = clean.drop(rows)
    return [clean.fill(row) for row in kept]

def merge(rows):
    return merged(rows, rows[::-1])

def configured(rows):
    return settings.pick("hours") * len(rows)
""",
        "src/flights/settings.py": """
DEFAULTS = {"hours": 3, "months": 1}
LIMIT = 10

def pick(name, otherwise=0):
    value = DEFAULTS.get(name, otherwise)
    return value if value < LIMIT else LIMIT

def unused_setting():
    return DEFAULTS["months"]
""",
        "src/flights/steps/__init__.py": "",
        "src/flights/steps/clean.py": """
WORST = 49

def drop(rows):
    return [row for row in rows if row <= WORST]

def fill(row):
    doubled = row * 2
    return doubled if doubled != 4 else None
""",
        "src/flights/steps/join.py": """
from .clean import fill

def joined(left, right):
    pairs = zip(left, right)
    return [(one, fill(other)) for one, other in pairs if one < other]
""",
    },
    tuple(Job("flights.pipeline", name) for name in ("cleaned", "merge", "configured")),
    entry="src/flights/pipeline.py",
    unused=(("src/flights/settings.py", "unused_setting"),),
)

CLASSES = Shape(
    "classes and inheritance",
    {
        "pipeline.py": """
from shapes import Circle, Square, Tally, describe

def areas(rows):
    made = [Circle(row) if row % 2 else Square(row) for row in rows]
    return [shape.area() for shape in made] + [Circle.unit, Square.sides]

def named(rows):
    return [describe(Square(rows[0])), Square(1).label, Square.make(3).side]

def tallied(rows):
    tally = Tally()
    for row in rows:
        tally += row
    return [tally.total, len(tally), 3 in tally, list(tally), tally(2)]
""",
        "shapes.py": """
from base import Mixin, Shape

class Circle(Shape):
    unit = 3

    def area(self):
        return self.unit * self.size ** 2 + self.extra()

class Square(Mixin, Shape):
    sides: int = 4

    @property
    def side(self):
        return self.size

    @classmethod
    def make(cls, size):
        return cls(size + 1)

    def area(self):
        return super().area() * 2 + self.size * self.size

    @property
    def label(self):
        return f"{self.sides}-{self.kind}"

class Tally:
    step = 1
    __slots__ = ("total", "seen")

    def __init__(self):
        self.total = 0
        self.seen = []

    def __iadd__(self, other):
        self.total += other * self.step
        self.seen.append(other)
        return self

    def __len__(self):
        return len(self.seen)

    def __contains__(self, item):
        return item in self.seen

    def __iter__(self):
        return iter(sorted(self.seen, reverse=True))

    def __call__(self, by):
        return self.total // by

def describe(shape):
    text = f"{type(shape).__name__}: {shape.area()}"
    return text.upper()

class UnusedShape(Shape):
    pass
""",
        "base.py": """
class Shape:
    kind = "shape"

    def __init__(self, size):
        self.size = size

    def area(self):
        return 5

    def extra(self):
        return 1 if self.size > 2 else 0

class Mixin:
    kind = "mixed"
""",
    },
    _jobs("areas", "named", "tallied"),
    unused=(("shapes.py", "UnusedShape"),),
)

CLOSURES = Shape(
    "closures, partials and decorators",
    {
        "pipeline.py": """
import functools
from tools import counted, repeat, twice

STEP = 4
add = functools.partial(lambda x, y: x + y * STEP, 7)

def make(limit):
    seen = 0

    def inside(x):
        nonlocal seen
        seen += 1
        return x > limit, seen

    return inside

@twice
def bumped(x):
    return x + 1

@repeat(times=2)
def doubled(x):
    return x * 2

@functools.lru_cache
def slow(x):
    return x - 3

def closed(rows):
    check = make(2)
    return [check(row) for row in rows]

def decorated(rows):
    return [bumped(rows[0]), doubled(rows[1]), slow(rows[2]), bumped.__name__]

def partials(rows):
    power = functools.partial(pow, 2)
    later = [lambda by=row: by * STEP for row in rows[:2]]
    return [add(rows[0]), power(3), [each() for each in later], counted(sorted)(rows, key=lambda row: -row)]
""",
        "tools.py": """
import functools

EXTRA = 1

def twice(function):
    @functools.wraps(function)
    def both(x):
        first = function(x)
        return function(first) + EXTRA
    return both

def repeat(times):
    def decorate(function):
        def many(x):
            for _ in range(times):
                x = function(x)
            return x
        return many
    return decorate

def counted(function):
    calls = []

    def wrapper(*args, **kwargs):
        calls.append(len(args))
        return function(*args, **kwargs), sum(calls)

    return wrapper

def unused_wrapper(function):
    return function
""",
    },
    _jobs("closed", "decorated", "partials"),
    unused=(("tools.py", "unused_wrapper"),),
)

STARS = Shape(
    "star imports and aliases",
    {
        "pipeline.py": """
from consts import *
from more import *
import helpers as h
import helpers
from helpers import trim as cut, Trimmer as Cutter

LOCAL = TOP + 1
measure = cut
alias = h

def starred(rows):
    return [TOP, LOCAL, shown(rows[0]), BOTH]

def aliased(rows):
    return [measure(row) for row in rows] + [Cutter().run(9), helpers.WIDTH]

def renamed(rows, width=h.WIDTH):
    from helpers import trim as other
    import consts as c
    return [other(row) % (width + c.LOW) for row in rows]
""",
        "consts.py": """
TOP = 11
LOW = 3
BOTH = 1
_HIDDEN = 5
UNUSED_CONST = 6
""",
        "more.py": """
__all__ = ["shown", "BOTH"]
BOTH = 2
hidden = 9

def shown(x):
    return x + hidden
""",
        "helpers.py": """
WIDTH = 4

def trim(x):
    over = x - WIDTH
    return over if over > 0 else 0

class Trimmer:
    times = 2

    def run(self, x):
        for _ in range(self.times):
            x = trim(x)
        return x
""",
    },
    _jobs("starred", "aliased", "renamed"),
    unused=(("consts.py", "UNUSED_CONST"),),
)

CONFIG = Shape(
    "constants, enums and dataclasses",
    {
        "pipeline.py": """
import config
from config import Colour, Options, Point, SETTINGS

def coloured(rows):
    return [Colour.RED.value, Colour(2).name, len(Colour), Colour.BLUE.warm]

def pointed(rows):
    point = Point(rows[0])
    moved = point._replace(x=5)
    return [tuple(point), moved.norm(), Point._fields]

def optioned(rows):
    options = Options(depth=rows[1])
    return [repr(options), options.leaves, options == Options(2), config.PATHS[0].name, SETTINGS["rate"] * config.FACTOR]
""",
        "config.py": """
import enum
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import NamedTuple

FACTOR = 2 ** 3
PATHS = [PurePosixPath("data") / name for name in ("a.csv", "b.csv")]
SETTINGS = dict(rate=0.5, rounds=FACTOR * 10)
UNUSED_SETTING = max(1, 2)

class Colour(enum.Enum):
    RED = 1
    BLUE = 2

    @property
    def warm(self):
        return self is Colour.RED

class Point(NamedTuple):
    x: int
    y: int = 3

    def norm(self):
        return self.x + self.y

@dataclass(order=True)
class Options:
    depth: int = 6
    leaves: list = field(default_factory=lambda: [1, 2])
    name: str = field(default="gbm", repr=False, compare=False)
""",
    },
    _jobs("coloured", "pointed", "optioned"),
    unused=(("config.py", "UNUSED_SETTING"),),
)

REGISTRIES = Shape(
    "registries and import effects",
    {
        "pipeline.py": """
import decimal
import math
import rules
from registry import BASES, ORDER, RULES, Plugin, fan

decimal.getcontext().prec = 5

def registered(rows):
    return {name: rule(rows[0]) for name, rule in RULES.items()}

def plugged(rows):
    return [plugin().run(rows[1]) for plugin in Plugin.known] + [base.__name__ for base in BASES]

def fanned(rows):
    return [fan(rows), fan(2), fan("x")]

def patched(rows):
    return [math.tau, str(decimal.Decimal(1) / 3), list(ORDER)]
""",
        "registry.py": """
from functools import singledispatch

RULES = {}
BASES = []
ORDER = []

def rule(name):
    def keep(function):
        RULES[name] = function
        return function
    return keep

class Plugin:
    known = []

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        Plugin.known.append(cls)

class Meta(type):
    def __new__(mcls, name, bases, space):
        made = super().__new__(mcls, name, bases, space)
        BASES.append(made)
        return made

@singledispatch
def fan(value):
    return ["other", value]
""",
        "rules.py": """
import math
from registry import ORDER, Meta, Plugin, fan, rule

math.tau = 7

@rule("double")
def double(x, by=2):
    return x * by

@rule("last")
def last(x):
    return x - 9

rule("shift")(lambda x: x + 3)

class Adder(Plugin):
    more = 1

    def run(self, x):
        return x + self.more

class Timer(Plugin):
    def run(self, x):
        return x * 3

class Made(metaclass=Meta):
    pass

@fan.register
def _(value: int):
    return value + 1

@fan.register(list)
def fan_rows(value):
    return len(value)

for word in ("b", "a"):
    ORDER.append(word)
ORDER += ["c"]
""",
    },
    _jobs("registered", "plugged", "fanned", "patched"),
)

NUMERIC = Shape(
    "numpy and polars helpers",
    {
        "pipeline.py": """
import numpy as np
import polars as pl
from features import LATE, bucket, frame, weights

def expressed(rows):
    table = frame(rows).with_columns(late=LATE, bucket=bucket("x"))
    return table.sort("x").to_dicts()

def weighted(rows):
    values = np.asarray(rows, dtype=np.float64)
    kept = values[values > 1]
    return (kept * weights(len(kept))).round(3)

def grouped(rows):
    table = frame(rows).group_by(pl.col("x") % 2, maintain_order=True)
    return table.agg(pl.col("y").sum().alias("sum"), n=pl.len()).rows()
""",
        "features.py": """
import numpy as np
import polars as pl

EDGE = 15
LATE = pl.col("x") >= EDGE
SLOPES = np.linspace(0, 1, 5)
UNUSED_EXPR = pl.col("z") * 2

def frame(rows):
    return pl.DataFrame({"x": rows, "y": [row * 2 for row in rows]})

def bucket(name, width=10):
    return (pl.col(name) // width).clip(0, 3)

def weights(n):
    base = np.arange(1, n + 1) / n
    return base + SLOPES[1]
""",
    },
    _jobs("expressed", "weighted", "grouped"),
    unused=(("features.py", "UNUSED_EXPR"),),
)

DYNAMIC = Shape(
    "dynamic code",
    {
        "pipeline.py": """
import importlib
import sys
import formulas
import plugins

def evaluated(rows):
    x = rows[0]
    y = rows[1]
    return eval(formulas.TEXT)

def looked_up(rows):
    return [getattr(plugins, f"plugin_{name}")(rows[2]) for name in plugins.NAMES]

def imported(rows):
    return importlib.import_module("plugins").plugin_a(rows[3])

def subclassed(rows):
    return sorted(kind.__name__ for kind in plugins.Base.__subclasses__())

def shown(rows):
    count = len(rows)
    return [f"{count=}", sorted(locals()), shown.__doc__]

def patched(rows):
    setattr(plugins, "WEIGHT", 10)
    return plugins.plugin_b(rows[0])
""",
        "formulas.py": """
FACTOR = 2
TEXT = "x * 3 + y"
""",
        "plugins.py": """
NAMES = ["a", "b"]
WEIGHT = 1

class Base:
    pass

class One(Base):
    pass

def plugin_a(x):
    part = x + WEIGHT
    return part

def plugin_b(x):
    return x * WEIGHT
""",
    },
    _jobs("evaluated", "looked_up", "imported", "subclassed", "shown", "patched"),
    dynamic=True,
)

PICKLED = Shape(
    "pickled classes between steps",
    {
        "pipeline.py": """
import functools
from scalers import Scaler, shift

def learned(rows):
    return Scaler(rows)

def applied(learned):
    return [learned.scale(value) for value in (1, 2, 3)]

def prepared(rows):
    return functools.partial(shift, by=rows[1])

def shifted(prepared):
    return [prepared(value) for value in (5, 6)]

def counted(rows) -> int:
    return Scaler(rows).size()
""",
        "scalers.py": """
from base import Model

STRETCH = 2

def shift(x, by):
    return x + by

class Scaler(Model):
    def __init__(self, rows):
        self.top = max(rows)
        self.low = min(rows)

    def scale(self, x):
        return self.clip((x - self.low) * STRETCH / self.top)

    def size(self):
        return self.top - self.low

def unused_scaler(x):
    return x
""",
        "base.py": """
class Model:
    ceiling = 0.1

    def clip(self, x):
        return min(x, self.ceiling)
""",
    },
    (
        *_jobs("learned", "prepared", "counted"),
        Job("pipeline", "applied", "learned"),
        Job("pipeline", "shifted", "prepared"),
    ),
    unused=(("scalers.py", "unused_scaler"),),
)

SHAPES = (FLAT, PACKAGE, LAYOUT, CLASSES, CLOSURES, STARS, CONFIG, REGISTRIES, NUMERIC, DYNAMIC, PICKLED)
