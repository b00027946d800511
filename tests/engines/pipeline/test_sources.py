from __future__ import annotations

from collections.abc import Mapping

import pytest

from mlops_local.domain.errors import ConfigError
from mlops_local.engines.pipeline.sources import SourceFile, discover, executed, module_name, third_party


def found(files: Mapping[str, str], entry: str = "pipeline.py") -> dict[str, str]:
    return {name: source.path for name, source in read(files, entry).items()}


def read(files: Mapping[str, str], entry: str = "pipeline.py") -> dict[str, SourceFile]:
    return discover(entry, lambda path: files[path].encode() if path in files else None)


def test_follows_every_form_of_import() -> None:
    """Plain, renamed, from, relative, star, function-local and literal dynamic imports all lead to project modules."""
    files = {
        "pipeline.py": "import a\nimport b.deep as x\nfrom c import f\nfrom d import *\ndef s():\n    import e\n"
        "    __import__('g')\n    import importlib\n    importlib.import_module('h.i')\n",
        "a.py": "",
        "b/__init__.py": "from . import side\nfrom .inner import thing\n",
        "b/deep.py": "from .. import nothing\n",
        "b/side.py": "",
        "b/inner/__init__.py": "from ..cousin import y\n",
        "b/cousin.py": "",
        "c/f.py": "",
        "d.py": "",
        "e.py": "",
        "g.py": "",
        "h/__init__.py": "",
        "h/i.py": "",
        "unrelated.py": "",
    }
    assert set(found(files)) == {
        "pipeline", "a", "b", "b.deep", "b.side", "b.inner", "b.cousin", "c.f", "d", "e", "g", "h", "h.i"
    }  # fmt: skip


def test_src_layout_and_packages_without_init() -> None:
    """Modules are found under the root and under src/, also in folders without __init__.py."""
    files = {"pipeline.py": "import flights.clean\nimport pack.mod", "src/flights/clean.py": "", "pack/mod.py": ""}
    assert found(files) == {"pipeline": "pipeline.py", "flights.clean": "src/flights/clean.py", "pack.mod": "pack/mod.py"}
    assert module_name("src/flights/pipeline.py") == "flights.pipeline"


def test_broken_module_is_kept_and_followed_no_further() -> None:
    """A module that does not parse still belongs to the project: its error is told when it is imported."""
    assert found({"pipeline.py": "import a", "a.py": "def :"}) == {"pipeline": "pipeline.py", "a": "a.py"}


def test_missing_entry_is_a_config_error() -> None:
    """Without a pipeline module there is one clear message."""
    with pytest.raises(ConfigError, match=r"no pipeline module: pipeline.py is not there"):
        found({})


def test_third_party_names() -> None:
    """What project code imports and does not hold itself, with and without imports inside functions."""
    sources = read(
        {
            "pipeline.py": "import polars as pl, a, mlops_local\nfrom os import path\ndef f():\n    import torch.nn",
            "a.py": "import numpy",
        }
    )
    assert third_party(sources) == ("polars", "os", "torch", "numpy")
    assert third_party(sources, lazy=False) == ("polars", "os", "numpy")
    assert third_party(sources, ["a"]) == ("numpy",)


def test_executed_follows_imports_at_the_top_only() -> None:
    """Importing a module executes its parents and what it imports at its top, each before itself."""
    files = {
        "pipeline.py": "import a.b\ndef f():\n    import c",
        "a/__init__.py": "",
        "a/b.py": "import d",
        "c.py": "",
        "d.py": "import pipeline",
    }
    assert executed("pipeline", read(files)) == ("a", "d", "a.b", "pipeline")
