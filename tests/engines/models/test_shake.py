"""What is cut from a project runs without it, and holds nothing that is not reached."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from dataclasses import dataclass
from typing import Any

import pytest

from mlops_local.engines.models.shake import imports, shake


@dataclass(frozen=True)
class File:
    """A project module."""

    path: str
    data: bytes


def project(**modules: str) -> dict[str, File]:
    """Sources by module name; `pkg__sub` stands for pkg.sub, `pkg__init` for the package pkg itself."""
    made = {}
    for key, text in modules.items():
        name = key.replace("__init", "").replace("__", ".")
        path = name.replace(".", "/") + ("/__init__.py" if key.endswith("__init") else ".py")
        made[name] = File(path, textwrap.dedent(text).encode())
    return made


def call(sources: dict[str, File], name: str = "features", *args: Any) -> Any:
    """Shake `pipeline.NAME`, load it as a bundle does and call it."""
    from mlops_local.engines.models.transform import load_function

    text = shake(sources, "pipeline", name)
    return load_function(text.encode(), name, str(hash(text)))(*args)


def test_only_what_is_reached_is_kept() -> None:
    """Helpers, constants and imports in use stay; steps beside them, training libraries and the API go."""
    sources = project(
        pipeline="""
        import lightgbm as lgb
        import math, os
        import mlops_local as mlops
        from statistics import mean, median

        flights = mlops.data("x/*.parquet")
        RATE = 2.0
        OTHER = open("/nonexistent").read()

        def helper(x): return mean([x, x]) * RATE + math.floor(0.5)

        @mlops.step
        def split(flights): return lgb.Booster()

        @mlops.transform
        def features(rows: lgb.Booster, flights: "mlops.XY") -> lgb.Booster:
            return helper(rows) + flights
        """
    )
    text = shake(sources, "pipeline", "features")
    assert call(sources, "features", 3.0, 1.0) == 7.0
    for gone in ("lightgbm", "mlops_local", "OTHER", "def split", "median", "import os", "mlops.data"):
        assert gone not in text
    assert imports(text) == {"math", "statistics"}


def test_constants_changed_in_place_keep_their_changes() -> None:
    """A table that top-level statements fill is whole in the bundle."""
    sources = project(
        pipeline="""
        TABLE = {"a": 1}
        TABLE["b"] = 2
        TABLE.update(c=3)
        COUNT = 1
        COUNT += len(TABLE)
        for key in list(TABLE):
            TABLE[key + key] = COUNT
        def features(x): return TABLE[x] + COUNT
        """
    )
    assert call(sources, "features", "c") == 7
    assert call(sources, "features", "cc") == 8


def test_names_of_parameters_do_not_drag_in_steps_of_that_name() -> None:
    """`codes` the argument is not `codes` the step."""
    sources = project(
        pipeline="""
        import torch
        def codes(train): return torch.zeros(1)
        def features(rows, codes):
            return [codes[row] for row in rows]
        """
    )
    assert imports(shake(sources, "pipeline", "features")) == frozenset()
    assert call(sources, "features", ["a"], {"a": 1}) == [1]


@pytest.mark.parametrize(
    "line",
    [
        "from helpers import double\ndef features(x): return double(x)",
        "from helpers import double as d\ndef features(x): return d(x)",
        "import helpers\ndef features(x): return helpers.double(x)",
        "import helpers as h\ndef features(x): return h.double(x)",
        "def features(x):\n    from helpers import double\n    return double(x)",
        "def features(x):\n    import helpers\n    return helpers.double(x)",
        "from helpers import *\ndef features(x): return double(x)",
        "from again import double\ndef features(x): return double(x)",
        "from again import *\ndef features(x): return double(x)",
        "import helpers\ndef features(x): return getattr(helpers, 'double')(x)",
        "try:\n    from helpers import double\nexcept ImportError:\n    double = None\ndef features(x): return double(x)",
        "import pkg.deep\ndef features(x): return pkg.deep.double(x)",
        "from pkg import deep\ndef features(x): return deep.double(x)",
        "from pkg.deep import double\ndef features(x): return double(x)",
        "from pkg.near import double\ndef features(x): return double(x)",
        "import bare.deep\ndef features(x): return bare.deep.double(x)",
        "import bare.deep as b\ndef features(x): return b.double(x)",
    ],
)
def test_every_way_to_import_from_the_project(line: str) -> None:
    """However a helper in another module is reached, it comes along with its own constants."""
    helpers = "FACTOR = 2\ndef double(x): return x * FACTOR\n"
    sources = project(
        pipeline=line,
        helpers=helpers,
        again="from helpers import *",
        pkg__init="import json",
        pkg__deep=helpers,
        pkg__near="from .deep import double",
        bare__deep=helpers,
    )
    text = shake(sources, "pipeline", "features")
    done = subprocess.run(
        [sys.executable, "-I", "-c", text + "\nprint(features(21))"], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "42", done.stderr
    assert "helpers import" not in text.replace("'from helpers import", "")


def test_two_modules_may_use_one_name_for_different_things() -> None:
    """Each module keeps its own names."""
    sources = project(
        pipeline="from helpers import scaled\nFACTOR = 10\ndef features(x): return scaled(x) * FACTOR",
        helpers="FACTOR = 3\ndef scaled(x): return x * FACTOR",
    )
    assert call(sources, "features", 1) == 30


def test_modules_that_need_each_other() -> None:
    """A circle that Python can import is one the bundle can run."""
    sources = project(
        pipeline="import helpers\nBASE = 5\ndef features(x): return helpers.plus(x)",
        helpers="import pipeline\ndef plus(x): return x + pipeline.BASE",
    )
    assert call(sources, "features", 1) == 6


def test_classes_decorators_and_defaults_come_along() -> None:
    """Dataclasses with annotated fields, project decorators and computed defaults are reached."""
    sources = project(
        pipeline='''
        from __future__ import annotations
        from dataclasses import dataclass, field
        from functools import lru_cache
        from typing import TYPE_CHECKING
        if TYPE_CHECKING:
            import sklearn

        SIZE = 4
        def twice(f):
            def inner(x): return f(x) * 2
            return inner

        @dataclass
        class Box:
            """A box."""
            size: int = SIZE
            items: list = field(default_factory=list)

        @lru_cache(maxsize=None)
        def box(size=SIZE): return Box(size)

        @twice
        def features(x: sklearn.Thing): return x + box().size
        '''
    )
    text = shake(sources, "pipeline", "features")
    assert call(sources, "features", 1) == 10
    assert "sklearn" not in imports(text)


def test_what_cannot_be_followed_keeps_the_whole_module() -> None:
    """`globals()` may name anything, so everything stays."""
    sources = project(
        pipeline="A = 1\nB = 2\ndef features(x): return globals()[x]\nif __name__ == '__main__':\n    raise SystemExit(3)"
    )
    assert call(sources, "features", "B") == 2


def test_comments_and_unrelated_edits_leave_the_same_bytes() -> None:
    """The bundle of an edit that means nothing is the same bundle."""
    before = project(pipeline="def features(x): return x + 1")
    after = project(pipeline="import torch\n# why\ndef other(): ...\n\n\ndef features(x):\n    # because\n    return x + 1")
    assert shake(before, "pipeline", "features") == shake(after, "pipeline", "features")


def test_quotes_and_backslashes_in_embedded_modules_survive() -> None:
    """Whatever a helper's text holds, it runs as written."""
    sources = project(
        pipeline="from helpers import text\ndef features(): return text()",
        helpers="def text(): return '''it's''' + \"\\n\\\\\" + r'\\d' + \"'''\"",
    )
    assert call(sources, "features") == "it's\n\\\\d'''"


def test_a_name_that_is_not_there_is_an_error() -> None:
    """Asking for an unknown function names it."""
    with pytest.raises(KeyError, match=r"pipeline\.nothing"):
        shake(project(pipeline="x = 1"), "pipeline", "nothing")
