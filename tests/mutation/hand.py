"""Edits made on purpose: those that have to be caught, and moves that change nothing."""

# ruff: noqa: E501 - a table of edits reads best with one a line

from __future__ import annotations

from collections.abc import Iterator

from tests.mutation import shapes
from tests.mutation.edits import Edit
from tests.mutation.shapes import Shape

CAUGHT: tuple[tuple[Shape, str, str, str, str], ...] = (
    (shapes.PACKAGE, "helper two modules away", "shop/limits.py", "FEE = 1", "FEE = 7"),
    (shapes.PACKAGE, "constant behind a constant", "shop/prices.py", "TAX = 19", "TAX = 7"),
    (shapes.PACKAGE, "what a re-export means", "shop/__init__.py", "import rounded", "import clip as rounded"),
    (shapes.PACKAGE, "submodule nobody imports any more", "shop/__init__.py", "from .deep import leaf as _leaf\nfrom .tools import rounded\nfrom . import deep\n", "from .tools import rounded\n"),
    (shapes.PACKAGE, "package attribute", "shop/__init__.py", "VERSION = 4", "VERSION = 5"),
    (shapes.CLASSES, "method of a base class", "base.py", "return 1 if self.size > 2 else 0", "return 9"),
    (shapes.CLASSES, "order of bases", "shapes.py", "Square(Mixin, Shape)", "Square(Shape, Mixin)"),
    (shapes.CLASSES, "class attribute of a base", "base.py", 'kind = "mixed"', 'kind = "other"'),
    (shapes.CLASSES, "operator method", "shapes.py", "self.total += other", "self.total -= other"),
    (shapes.CLASSES, "attribute added to a class from outside", "base.py", "class Mixin", "Shape.extra = lambda self: 4\n\nclass Mixin"),
    (shapes.CLASSES, "method deleted from outside", "base.py", "class Mixin", "del Shape.area\n\nclass Mixin"),
    (shapes.CLOSURES, "body of a decorator", "tools.py", "return function(first) + EXTRA", "return function(first) - EXTRA"),
    (shapes.CLOSURES, "constant of a decorator", "tools.py", "EXTRA = 1", "EXTRA = 2"),
    (shapes.CLOSURES, "argument of a decorator", "pipeline.py", "times=2", "times=3"),
    (shapes.CLOSURES, "variable of a closure", "pipeline.py", "seen = 0", "seen = 5"),
    (shapes.CLOSURES, "what a partial holds", "pipeline.py", "y * STEP, 7)", "y * STEP, 8)"),
    (shapes.CLOSURES, "wraps gone", "tools.py", "    @functools.wraps(function)\n", ""),
    (shapes.CLOSURES, "late binding", "pipeline.py", "lambda by=row: by * STEP", "lambda: row * STEP"),
    (shapes.STARS, "star-imported constant", "consts.py", "TOP = 11", "TOP = 12"),
    (shapes.STARS, "default through an alias", "helpers.py", "WIDTH = 4", "WIDTH = 5"),
    (shapes.STARS, "order of two stars", "pipeline.py", "from consts import *\nfrom more import *", "from more import *\nfrom consts import *"),
    (shapes.STARS, "star after its shadow", "pipeline.py", "LOCAL = TOP + 1", "TOP = 1\nLOCAL = TOP + 1"),
    (shapes.STARS, "name taken out of __all__", "more.py", '["shown", "BOTH"]', '["shown"]'),
    (shapes.STARS, "__all__ shortened later", "more.py", "BOTH = 2", 'BOTH = 2\n__all__.remove("BOTH")'),
    (shapes.STARS, "which function an alias means", "pipeline.py", "measure = cut", "measure = abs"),
    (shapes.STARS, "constant bound a second time", "consts.py", "LOW = 3", "LOW = 3\nTOP = TOP * 2"),
    (shapes.FLAT, "builtin shadowed", "pipeline.py", "def unused_helper", "def sum(x):\n    return 0\n\n\ndef unused_helper"),
    (shapes.CONFIG, "enum member", "config.py", "BLUE = 2", "BLUE = 2\n    GREEN = 3"),
    (shapes.CONFIG, "order of enum members", "config.py", "RED = 1\n    BLUE = 2", "RED = 2\n    BLUE = 1"),
    (shapes.CONFIG, "default of a NamedTuple", "config.py", "y: int = 3", "y: int = 4"),
    (shapes.CONFIG, "field of a NamedTuple", "config.py", "y: int = 3", "y: int = 3\n    z: int = 0"),
    (shapes.CONFIG, "field of a dataclass", "config.py", 'name: str = field(default="gbm", repr=False', 'name: str = field(default="gbm", repr=True'),
    (shapes.CONFIG, "argument of a class decorator", "config.py", "order=True", "eq=False"),
    (shapes.CONFIG, "annotation that makes a field", "config.py", "depth: int = 6", "depth = 6"),
    (shapes.CONFIG, "value computed at import", "config.py", "2 ** 3", "2 ** 4"),
    (shapes.REGISTRIES, "another entry in a registry", "rules.py", '@rule("last")', '@rule("more")\n@rule("last")'),
    (shapes.REGISTRIES, "order in a registry", "rules.py", 'for word in ("b", "a")', 'for word in ("a", "b")'),
    (shapes.REGISTRIES, "order of effects", "rules.py", 'ORDER += ["c"]\n', "ORDER.reverse()\n"),
    (shapes.REGISTRIES, "order of registering statements", "registry.py", "ORDER = []", 'ORDER = ["z"]'),
    (shapes.REGISTRIES, "patched library", "rules.py", "math.tau = 7", "math.tau = 8"),
    (shapes.REGISTRIES, "patch inside a tuple", "rules.py", "math.tau = 7", "math.tau, _rest = 9, 1"),
    (shapes.REGISTRIES, "patch inside a class body", "rules.py", "class Made(metaclass=Meta):\n    pass", "class Made(metaclass=Meta):\n    math.tau = 3"),
    (shapes.REGISTRIES, "patch by a function called while importing", "rules.py", "math.tau = 7", "def _patch():\n    math.tau = 2\n    return 1\n\n_done = _patch()"),
    (shapes.REGISTRIES, "option set while importing", "pipeline.py", ".prec = 5", ".prec = 6"),
    (shapes.REGISTRIES, "subclass that registers itself", "rules.py", "class Timer(Plugin)", "class Later(Plugin):\n    def run(self, x):\n        return 0\n\nclass Timer(Plugin)"),
    (shapes.REGISTRIES, "class seen by a metaclass", "rules.py", "class Made(", "class First(metaclass=Meta):\n    pass\n\nclass Made("),
    (shapes.REGISTRIES, "function behind singledispatch", "rules.py", "return value + 1", "return value + 2"),
    (shapes.REGISTRIES, "type singledispatch reads", "rules.py", "def _(value: int)", "def _(value: str)"),
    (shapes.REGISTRIES, "mutated by a comprehension", "rules.py", 'ORDER += ["c"]\n', '_x = [ORDER.append(n) for n in ("d",)]\n'),
    (shapes.REGISTRIES, "mutated through an argument", "rules.py", 'ORDER += ["c"]\n', 'def fill(into):\n    into.append("f")\n    return into\n\n_y = fill(ORDER)\n'),
    (shapes.REGISTRIES, "mutated through another name", "rules.py", 'ORDER += ["c"]\n', "_same = ORDER\n_same.append(4)\n"),
    (shapes.REGISTRIES, "mutated through map", "rules.py", 'ORDER += ["c"]\n', '_z = list(map(ORDER.append, "gh"))\n'),
    (shapes.REGISTRIES, "mutated by pop", "rules.py", 'ORDER += ["c"]\n', "_p = ORDER.pop()\n"),
    (shapes.REGISTRIES, "mutated by an operator", "rules.py", 'ORDER += ["c"]\n', "class Adds:\n    def __rshift__(self, other):\n        ORDER.append(other)\n        return self\n\n_w = Adds() >> 3\n"),
    (shapes.REGISTRIES, "mutated by a default", "rules.py", 'ORDER += ["c"]\n', "def later(x=ORDER.append(1)):\n    return x\n"),
    (shapes.REGISTRIES, "mutated by an annotation", "rules.py", 'ORDER += ["c"]\n', "def later(x: ORDER.append(1)):\n    return x\n"),
    (shapes.REGISTRIES, "module that registers, imported no more", "pipeline.py", "import rules\n", ""),
    (shapes.NUMERIC, "constant in an expression", "features.py", "EDGE = 15", "EDGE = 2"),
    (shapes.NUMERIC, "array computed at import", "features.py", "np.linspace(0, 1, 5)", "np.linspace(0, 1, 3)"),
    (shapes.NUMERIC, "other library under the same name", "pipeline.py", "import numpy as np\n", "import numpy.ma as np\n"),
    (shapes.DYNAMIC, "docstring that is read", "pipeline.py", "def shown(rows):", 'def shown(rows):\n    """Read."""'),
    (shapes.DYNAMIC, "name in a text that is evaluated", "formulas.py", "x * 3 + y", "x * 3 + len(rows)"),
    (shapes.DYNAMIC, "function found by a computed name", "plugins.py", "return x * WEIGHT", "return x - WEIGHT"),
    (shapes.DYNAMIC, "names looked up", "plugins.py", '["a", "b"]', '["b", "a"]'),
    (shapes.DYNAMIC, "another subclass", "plugins.py", "class One(Base)", "class Two(Base):\n    pass\n\nclass One(Base)"),
    (shapes.DYNAMIC, "local variable that locals() shows", "pipeline.py", "    count = len(rows)\n", "    count = len(rows)\n    extra = 1\n"),
    (shapes.PICKLED, "method of a class that came in a pickle", "base.py", "min(x, self.ceiling)", "max(x, self.ceiling)"),
    (shapes.PICKLED, "class attribute of one that came in a pickle", "base.py", "ceiling = 0.1", "ceiling = 0.05"),
    (shapes.PICKLED, "function that came in a partial", "scalers.py", "return x + by", "return x * by"),
    (shapes.LAYOUT, "function behind a renamed import", "src/flights/steps/join.py", "one < other", "one > other"),
    (shapes.LAYOUT, "constant in a src layout", "src/flights/settings.py", '"hours": 3', '"hours": 4'),
    (shapes.FLAT, "function in a branch", "pipeline.py", "return x + 10", "return x + 11"),
    (shapes.FLAT, "condition of a branch", "pipeline.py", "if RATE > 2:", "if RATE > 9:"),
    (shapes.FLAT, "name bound again below", "pipeline.py", "def unused_helper", "LOW = 2\n\n\ndef unused_helper"),
    (shapes.FLAT, "global taken by a local", "pipeline.py", "    count = 0\n", "    count = 0\n    HIGH = 3\n"),
    (shapes.FLAT, "caught exception", "pipeline.py", "except ZeroDivisionError", "except LookupError"),
    (shapes.FLAT, "module that hides a library", "pipeline.py", "import math\n", "import cmath as math\n"),
)  # fmt: skip
"""Shape, what it is, file, text before and after."""

SAME: tuple[tuple[Shape, str, str, str, str], ...] = (
    (shapes.FLAT, "arithmetic of numbers done", "pipeline.py", "60 * 60", "3600"),
    (shapes.FLAT, "number spelled otherwise", "pipeline.py", "RATE = 3", "RATE = 0x3"),
    (shapes.FLAT, "two functions' locals swapped", "pipeline.py", "    made = x * by\n    rest = made % 7", "    rest = x * by\n    made = rest % 7"),
    (shapes.CONFIG, "hint of a constant", "config.py", "FACTOR = 2", "FACTOR: int = 2"),
    (shapes.CLASSES, "docstring of a class", "base.py", "class Mixin:", 'class Mixin:\n    """Mixes."""'),
    (shapes.CLASSES, "hint of a method", "base.py", "def area(self):", "def area(self) -> int:"),
    (shapes.CLASSES, "variable of a comprehension", "pipeline.py", "[shape.area() for shape in made]", "[one.area() for one in made]"),
    (shapes.CLOSURES, "variable of a closure renamed", "pipeline.py", "seen", "counted_so_far"),
    (shapes.REGISTRIES, "local of a registering function", "rules.py", "return x * by", "made = x * by\n    return made"),
    (shapes.NUMERIC, "import unused", "features.py", "import polars as pl", "import polars as pl\nimport string"),
    (shapes.PACKAGE, "future import", "shop/tools.py", "DIGITS = 1", "from __future__ import annotations\nDIGITS = 1"),
)  # fmt: skip


def by_hand() -> Iterator[Edit]:
    """All of them."""
    for shape, what, path, old, new in CAUGHT:
        yield Edit(shape, "made to be caught", what, {**shape.files, path: _replaced(shape.files[path], old, new)})
    for shape, what, path, old, new in SAME:
        neutral = what != "local of a registering function"
        files = {**shape.files, path: _replaced(shape.files[path], old, new)}
        yield Edit(shape, "made to be ignored", what, files, neutral=neutral)
    yield from _moves()


def _replaced(text: str, old: str, new: str) -> str:
    assert old in text, f"the edit does not apply: {old!r}"
    return text.replace(old, new) if old == "seen" else text.replace(old, new, 1)


def _moves() -> Iterator[Edit]:
    """A helper in another file, a file in two, a module in a package: nothing changes but where things are."""
    flat = shapes.FLAT.files["pipeline.py"]
    start, end = flat.index("def scale"), flat.index("def unused_helper")
    helper = flat[start:end]
    yield _moved(shapes.FLAT, "helper moved unchanged", {
        "pipeline.py": flat.replace(helper, "").replace("RATE = 3\n", "from consts import RATE\nfrom moved import scale\n"),
        "consts.py": "RATE = 3\n",
        "moved.py": "from consts import RATE\n\n" + helper,
    })  # fmt: skip
    tools = shapes.PACKAGE.files["shop/tools.py"]
    cut = tools.index("def clip")
    yield _moved(shapes.PACKAGE, "file split", {
        **shapes.PACKAGE.files,
        "shop/tools.py": "from .clipping import CEILING, clip\n" + tools[:cut].replace("CEILING = 400\n", "")
        + "def unused_tool(x):\n    return x + CEILING\n",
        "shop/clipping.py": "CEILING = 400\n\n" + tools[cut : tools.index("def unused_tool")],
    })  # fmt: skip
    yield _moved(shapes.STARS, "module made a package", {
        **{path: text for path, text in shapes.STARS.files.items() if path != "helpers.py"},
        "helpers/__init__.py": shapes.STARS.files["helpers.py"],
    })  # fmt: skip
    layout = shapes.LAYOUT.files
    yield Edit(shapes.LAYOUT, "moves", "package out of src", {
        path.removeprefix("src/"): text for path, text in layout.items()
    }, neutral=True, entry="flights/pipeline.py")  # fmt: skip
    closures = shapes.CLOSURES.files
    repeat = closures["tools.py"][closures["tools.py"].index("def repeat") : closures["tools.py"].index("def counted")]
    yield _moved(shapes.CLOSURES, "decorator moved", {
        "pipeline.py": closures["pipeline.py"].replace("counted, repeat, twice", "counted, twice\nfrom again import repeat"),
        "tools.py": closures["tools.py"].replace(repeat, ""),
        "again.py": repeat,
    })  # fmt: skip
    scalers = shapes.PICKLED.files["scalers.py"]
    kind = scalers[scalers.index("class Scaler") : scalers.index("def unused_scaler")]
    moved = {
        **shapes.PICKLED.files,
        "scalers.py": scalers.replace(kind, ""),
        "models.py": "from base import Model\n\nSTRETCH = 2\n\n" + kind,
        "pipeline.py": shapes.PICKLED.files["pipeline.py"].replace(
            "from scalers import Scaler, shift", "from scalers import shift\nfrom models import Scaler"
        ),
    }
    yield Edit(shapes.PICKLED, "made to be caught", "pickled class moved", moved)
    shift = scalers[scalers.index("def shift") : scalers.index("class Scaler")]
    yield Edit(shapes.PICKLED, "made to be caught", "function in a pickled partial moved", {
        **shapes.PICKLED.files,
        "scalers.py": scalers.replace(shift, ""),
        "shifts.py": shift,
        "pipeline.py": shapes.PICKLED.files["pipeline.py"].replace("Scaler, shift", "Scaler\nfrom shifts import shift"),
    })  # fmt: skip


def _moved(shape: Shape, what: str, files: dict[str, str]) -> Edit:
    return Edit(shape, "moves", what, files, neutral=True)
