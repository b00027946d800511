# ruff: noqa: E501 - a table of programs reads best with few lines
"""Pairs of programs that differ in a way that is easy to overlook: no step may take one's result for the other's."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from mlops_local.domain.graph import Graph, Step, Symbol
from mlops_local.engines.pipeline import fingerprint as fingerprints
from mlops_local.engines.pipeline.sources import discover

STEP = Step("fit", "step", (Symbol("pipeline", "fit"),))


def of(pipeline: str, others: Mapping[str, str]) -> str:
    files = {"pipeline.py": pipeline, **{f"{name}.py": text for name, text in others.items()}}
    sources = discover("pipeline.py", lambda path: files[path].encode() if path in files else None)
    return fingerprints.fingerprint(STEP, fingerprints.parts(STEP, Graph(steps=(STEP,)), sources), {}, {})[0]


PAIRS: dict[str, tuple[str, str, dict[str, str]]] = {
    "duckdb global by sql": (
        "import duckdb\nT=[1]\ndef fit(rows):\n    return duckdb.sql('select * from T').fetchall()\n",
        "import duckdb\nT=[2]\ndef fit(rows):\n    return duckdb.sql('select * from T').fetchall()\n",
        {},
    ),
    "duckdb local renamed": (
        "import duckdb\ndef fit(rows):\n    t = rows\n    return duckdb.sql('select * from t')\n",
        "import duckdb\ndef fit(rows):\n    u = rows\n    return duckdb.sql('select * from t')\n",
        {},
    ),
    "sql text elsewhere": (
        "import duckdb\nQ='select * from T'\nT=[1]\ndef fit(rows):\n    return duckdb.sql(Q)\n",
        "import duckdb\nQ='select * from T'\nT=[2]\ndef fit(rows):\n    return duckdb.sql(Q)\n",
        {},
    ),
    "module doc": ("'''a'''\ndef fit(rows):\n    return __doc__\n", "'''b'''\ndef fit(rows):\n    return __doc__\n", {}),
    "module doc via docopt alias": (
        "'''a'''\nimport x\nD=__doc__\ndef fit(rows):\n    return D\n",
        "'''b'''\nimport x\nD=__doc__\ndef fit(rows):\n    return D\n",
        {},
    ),
    "doc by getattr": (
        "def h():\n    'a'\ndef fit(rows):\n    return getattr(h,'__doc__')\n",
        "def h():\n    'b'\ndef fit(rows):\n    return getattr(h,'__doc__')\n",
        {},
    ),
    "doc of loop var": (
        "def h():\n    'a'\ndef fit(rows):\n    return [f.__doc__ for f in (h,)]\n",
        "def h():\n    'b'\ndef fit(rows):\n    return [f.__doc__ for f in (h,)]\n",
        {},
    ),
    "order of read": (
        "L=1\nA=L+1\nL=2\ndef fit(rows):\n    return A,L\n",
        "L=1\nL=2\nA=L+1\ndef fit(rows):\n    return A,L\n",
        {},
    ),
    "env set before read": (
        "import os\nos.environ['X']='1'\nA=os.environ.get('X')\ndef fit(rows):\n    return A\n",
        "import os\nA=os.environ.get('X')\nos.environ['X']='1'\ndef fit(rows):\n    return A\n",
        {},
    ),
    "import after effect": (
        "import os\nimport helper\nos.environ['X']='1'\ndef fit(rows):\n    return helper.K\n",
        "import os\nos.environ['X']='1'\nimport helper\ndef fit(rows):\n    return helper.K\n",
        {"helper": "import os\nK=os.environ.get('X')\n"},
    ),
    "shared iterator": (
        "IT=iter([1,2,3])\nA=next(IT)\nB=next(IT)\ndef fit(rows):\n    return B\n",
        "IT=iter([1,2,3])\nB=next(IT)\ndef fit(rows):\n    return B\n",
        {},
    ),
    "iterator consumed by list": (
        "IT=zip('ab')\nA=list(IT)\nB=list(IT)\ndef fit(rows):\n    return B\n",
        "IT=zip('ab')\nB=list(IT)\ndef fit(rows):\n    return B\n",
        {},
    ),
    "rng order": (
        "import numpy as np\nR=np.random.default_rng(0)\nA=R.normal()\nB=R.normal()\ndef fit(rows):\n    return B\n",
        "import numpy as np\nR=np.random.default_rng(0)\nB=R.normal()\ndef fit(rows):\n    return B\n",
        {},
    ),
    "defaultdict read": (
        "from collections import defaultdict\nD=defaultdict(list)\nA=D['k']\ndef fit(rows):\n    return list(D)\n",
        "from collections import defaultdict\nD=defaultdict(list)\ndef fit(rows):\n    return list(D)\n",
        {},
    ),
    "lambda called": (
        "R=[]\nA=(lambda: R.append(1))()\ndef fit(rows):\n    return R\n",
        "R=[]\ndef fit(rows):\n    return R\n",
        {},
    ),
    "sorted key effect": (
        "R=[]\nA=sorted([1], key=R.append)\ndef fit(rows):\n    return R\n",
        "R=[]\ndef fit(rows):\n    return R\n",
        {},
    ),
    "sorted key project fn": (
        "R=[]\ndef k(x):\n    R.append(x)\n    return x\nA=sorted([1], key=k)\ndef fit(rows):\n    return R\n",
        "R=[]\ndef k(x):\n    R.append(x)\n    return x\ndef fit(rows):\n    return R\n",
        {},
    ),
    "fn mutates loop element": (
        "R=[[]]\ndef k():\n    for r in R:\n        r.append(1)\nA=k()\ndef fit(rows):\n    return R\n",
        "R=[[]]\ndef k():\n    for r in R:\n        r.append(1)\ndef fit(rows):\n    return R\n",
        {},
    ),
    "fn subscript alias": (
        "R={'a':[]}\ndef k():\n    x=R['a']\n    x.append(1)\nA=k()\ndef fit(rows):\n    return R\n",
        "R={'a':[]}\ndef k():\n    x=R['a']\n    x.append(1)\ndef fit(rows):\n    return R\n",
        {},
    ),
    "fresh holds global": (
        "R=[]\ndef k():\n    x=[R]\n    x[0].append(1)\nA=k()\ndef fit(rows):\n    return R\n",
        "R=[]\ndef k():\n    x=[R]\n    x[0].append(1)\ndef fit(rows):\n    return R\n",
        {},
    ),
    "fresh tuple unpack": (
        "R=[]\ndef k():\n    x,y=R,1\n    x.append(1)\nA=k()\ndef fit(rows):\n    return R\n",
        "R=[]\ndef k():\n    x,y=R,1\n    x.append(1)\ndef fit(rows):\n    return R\n",
        {},
    ),
    "with as": (
        "import tools\nR=[]\ndef k():\n    with tools.f(R) as x:\n        x.append(1)\nA=k()\ndef fit(rows):\n    return R\n",
        "import tools\nR=[]\ndef k():\n    with tools.f(R) as x:\n        x.append(1)\ndef fit(rows):\n    return R\n",
        {"tools": "import contextlib\n@contextlib.contextmanager\ndef f(r):\n    yield r\n"},
    ),
    "property effect": (
        "R=[]\nclass P:\n    @property\n    def v(self):\n        R.append(1)\n        return 1\np=P()\nA=p.v\ndef fit(rows):\n    return R\n",
        "R=[]\nclass P:\n    @property\n    def v(self):\n        R.append(1)\n        return 1\np=P()\ndef fit(rows):\n    return R\n",
        {},
    ),
    "getitem effect on inst": (
        "R=[]\nclass P:\n    def __getitem__(self,k):\n        R.append(1)\np=P()\nA=p['x']\ndef fit(rows):\n    return R\n",
        "R=[]\nclass P:\n    def __getitem__(self,k):\n        R.append(1)\np=P()\ndef fit(rows):\n    return R\n",
        {},
    ),
    "context if": (
        "R=[]\nif R.append(1):\n    pass\ndef fit(rows):\n    return R\n",
        "R=[]\ndef fit(rows):\n    return R\n",
        {},
    ),
    "class decorator registers": (
        "R=[]\ndef reg(c):\n    R.append(c)\n    return c\n@reg\nclass A:\n    x=1\ndef fit(rows):\n    return [c.x for c in R]\n",
        "R=[]\ndef reg(c):\n    R.append(c)\n    return c\n@reg\nclass A:\n    x=2\ndef fit(rows):\n    return [c.x for c in R]\n",
        {},
    ),
    "set_name": (
        "R=[]\nclass D:\n    def __set_name__(self,o,n):\n        R.append(n)\nclass A:\n    x=D()\ndef fit(rows):\n    return R\n",
        "R=[]\nclass D:\n    def __set_name__(self,o,n):\n        R.append(n)\nclass A:\n    y=D()\ndef fit(rows):\n    return R\n",
        {},
    ),
    "closure nonlocal names": (
        "def fit(rows):\n    a=1\n    b=2\n    def g():\n        return a\n    return g()+b\n",
        "def fit(rows):\n    a=1\n    b=2\n    def g():\n        return b\n    return g()+b\n",
        {},
    ),
    "swap locals": (
        "def fit(rows):\n    a=1\n    b=2\n    return a-b\n",
        "def fit(rows):\n    a=1\n    b=2\n    return b-a\n",
        {},
    ),
    "local vs global": (
        "x=5\ndef fit(rows):\n    for y in rows: pass\n    return x\n",
        "x=5\ndef fit(rows):\n    for x in rows: pass\n    return x\n",
        {},
    ),
    "fstring=": ("def fit(rows):\n    a=1\n    return f'{a=}'\n", "def fit(rows):\n    b=1\n    return f'{b=}'\n", {}),
    "keyword kept": ("def fit(rows):\n    a=1\n    return dict(a=a)\n", "def fit(rows):\n    b=1\n    return dict(b=b)\n", {}),
    "inner fn name": (
        "def fit(rows):\n    def g(): pass\n    return g.__name__\n",
        "def fit(rows):\n    def h(): pass\n    return h.__name__\n",
        {},
    ),
    "future annotations dataclass": (
        "import dataclasses\n@dataclasses.dataclass\nclass A:\n    x: int = 1\ndef fit(rows):\n    return A.__annotations__\n",
        "from __future__ import annotations\nimport dataclasses\n@dataclasses.dataclass\nclass A:\n    x: int = 1\ndef fit(rows):\n    return A.__annotations__\n",
        {},
    ),
    "name of module after alias": (
        "import tools\ndef fit(rows):\n    return tools.__name__\n",
        "import tools2 as tools\ndef fit(rows):\n    return tools.__name__\n",
        {"tools": "", "tools2": ""},
    ),
    "builtins.eval": (
        "import builtins\nK=1\ndef fit(rows):\n    return builtins.eval('K')\n",
        "import builtins\nK=2\ndef fit(rows):\n    return builtins.eval('K')\n",
        {},
    ),
    "eval passed": (
        "import t\nK=1\ndef fit(rows):\n    return t.e('K')\n",
        "import t\nK=2\ndef fit(rows):\n    return t.e('K')\n",
        {"t": "e = eval\n"},
    ),
    "globals of fn": (
        "import t\nK=1\ndef fit(rows):\n    return t.f.__globals__['Z']\n",
        "import t\nK=2\ndef fit(rows):\n    return t.f.__globals__['Z']\n",
        {},
    ),
    "attr set on fn by other stmt": (
        "def h():\n    return h.k\nh.k=1\ndef fit(rows):\n    return h()\n",
        "def h():\n    return h.k\nh.k=2\ndef fit(rows):\n    return h()\n",
        {},
    ),
    "type alias star try": (
        "try:\n    from fast import f\nexcept ImportError:\n    def f(): return 1\ndef fit(rows):\n    return f()\n",
        "try:\n    from fast import f\nexcept ImportError:\n    def f(): return 2\ndef fit(rows):\n    return f()\n",
        {},
    ),
    "walrus top": (
        "if (n := 3) > 2:\n    pass\ndef fit(rows):\n    return n\n",
        "if (n := 4) > 2:\n    pass\ndef fit(rows):\n    return n\n",
        {},
    ),
    "partialmethod alias chain": (
        "import functools\ndef h(a,b): return a\nclass C:\n    m=functools.partialmethod(h, 1)\nk=C().m\ndef fit(rows):\n    return k()\n",
        "import functools\ndef h(a,b): return b\nclass C:\n    m=functools.partialmethod(h, 1)\nk=C().m\ndef fit(rows):\n    return k()\n",
        {},
    ),
    "modules that register, in another order": (
        "import one\nimport two\nimport reg\ndef fit(rows):\n    return list(reg.R)\n",
        "import two\nimport one\nimport reg\ndef fit(rows):\n    return list(reg.R)\n",
        {"one": "import reg\nreg.R.append(1)\n", "two": "import reg\nreg.R.append(2)\n", "reg": "R=[]\n"},
    ),
    "module bound by both a star and a definition": (
        "L = 1\nfrom t import *\ndef fit(rows):\n    return L\n",
        "from t import *\nL = 1\ndef fit(rows):\n    return L\n",
        {"t": "L = 2\n"},
    ),
    "pop from a local alias of a parameter": (
        "R = [1]\ndef f(x):\n    y = x\n    y.pop()\n    return 1\nA = f(R)\ndef fit(rows):\n    return R\n",
        "R = [1]\ndef f(x):\n    y = x\n    y.pop()\n    return 1\ndef fit(rows):\n    return R\n",
        {},
    ),
    "augmented assignment to a parameter": (
        "R = [1]\ndef f(x):\n    x += [2]\n    return 1\nA = f(R)\ndef fit(rows):\n    return R\n",
        "R = [1]\ndef f(x):\n    x += [2]\n    return 1\ndef fit(rows):\n    return R\n",
        {},
    ),
    "generator that registers": (
        "R = []\ndef g():\n    R.append(1)\n    yield 1\nA = list(g())\ndef fit(rows):\n    return R\n",
        "R = []\ndef g():\n    R.append(1)\n    yield 1\ndef fit(rows):\n    return R\n",
        {},
    ),
    "function that imports a module which registers": (
        "import reg\ndef g():\n    import one\n    return 1\nA = g()\ndef fit(rows):\n    return reg.R\n",
        "import reg\ndef g():\n    import one\n    return 1\ndef fit(rows):\n    return reg.R\n",
        {"one": "import reg\nreg.R.append(1)\n", "reg": "R = []\n"},
    ),
    "registering inside a with": (
        "import contextlib\nR = []\nwith contextlib.suppress(ValueError):\n    R.append(1)\ndef fit(rows):\n    return R\n",
        "import contextlib\nR = []\ndef fit(rows):\n    return R\n",
        {},
    ),
    "decorator that registers its function": (
        "R = []\ndef d(f):\n    R.append(f)\n    def w(*a):\n        return f(*a)\n    return w\n@d\ndef h():\n    return 1\ndef fit(rows):\n    return [f() for f in R]\n",
        "R = []\ndef d(f):\n    R.append(f)\n    def w(*a):\n        return f(*a)\n    return w\n@d\ndef h():\n    return 2\ndef fit(rows):\n    return [f() for f in R]\n",
        {},
    ),
    "object whose method registers": (
        "class T:\n    def __init__(self):\n        self.all = []\n    def add_one(self, n):\n        self.all = [*self.all, n]\n        return n\nt = T()\nA = t.add_one(1)\ndef fit(rows):\n    return t.all\n",
        "class T:\n    def __init__(self):\n        self.all = []\n    def add_one(self, n):\n        self.all = [*self.all, n]\n        return n\nt = T()\ndef fit(rows):\n    return t.all\n",
        {},
    ),
    "object with a harmless method name": (
        "class T:\n    all = []\n    def get(self, n):\n        self.all.append(n)\n        return n\nt = T()\nA = t.get(1)\ndef fit(rows):\n    return t.all\n",
        "class T:\n    all = []\n    def get(self, n):\n        self.all.append(n)\n        return n\nt = T()\ndef fit(rows):\n    return t.all\n",
        {},
    ),
    "argument with a harmless method name": (
        "class T:\n    all = []\n    def get(self, n):\n        self.all.append(n)\n        return n\nt = T()\ndef f(x):\n    return x.get(1)\nA = f(t)\ndef fit(rows):\n    return T.all\n",
        "class T:\n    all = []\n    def get(self, n):\n        self.all.append(n)\n        return n\nt = T()\ndef f(x):\n    return x.get(1)\ndef fit(rows):\n    return T.all\n",
        {},
    ),
    "line number in a traceback": (
        "import traceback\ndef fit(rows):\n    try:\n        1 / 0\n    except ZeroDivisionError:\n        return traceback.format_exc()\n",
        "# a line more\nimport traceback\ndef fit(rows):\n    try:\n        1 / 0\n    except ZeroDivisionError:\n        return traceback.format_exc()\n",
        {},
    ),
    "class seen through type()": (
        "from one import K\ndef fit(rows):\n    return str(type(K()))\n",
        "from two import K\ndef fit(rows):\n    return str(type(K()))\n",
        {"one": "class K: pass\n", "two": "class K: pass\n"},
    ),
    "setting in a dict of settings": (
        "C = dict(a=1)\nD = {**C, 'b': 2}\ndef fit(rows):\n    return D\n",
        "C = dict(a=2)\nD = {**C, 'b': 2}\ndef fit(rows):\n    return D\n",
        {},
    ),
}


@pytest.mark.parametrize(("one", "other", "others"), PAIRS.values(), ids=PAIRS)
def test_programs_that_differ_have_different_fingerprints(one: str, other: str, others: dict[str, str]) -> None:
    """What the second does otherwise is noticed, whoever does it."""
    assert of(one, others) != of(other, others)


def test_every_sort_of_local_variable_can_be_renamed() -> None:
    """Names bound by `except`, `match`, comprehensions and walruses are local too."""
    text = """
E = ValueError
def fit(rows):
    try:
        {a} = 1
    except E as {e}:
        {a} = {e}
    match {a}:
        case [{x}, *{y}]:
            return {x}, {y}
    def inner():
        nonlocal {a}
        {a} = 2
    inner()
    with open("f") as {e}:
        return [({q}, {a}) for {q} in rows if ({x} := {q})]
"""
    names = [{name: f"{name}{number}" for name in "aexyq"} for number in (1, 2)]
    assert of(text.format(**names[0]), {}) == of(text.format(**names[1]), {})
