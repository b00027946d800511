"""Keep the order of rows in a step, where polars leaves it open.

Joins, groupings, `unique` and sorts of equal keys give their rows in another order in each process unless told otherwise
(measured; polars promises nothing else). A step is asked for the same result from the same inputs, so in its process they keep
order unless the caller decides. Only the default changes, and only for the process that asks for it.

Python 3.10; polars is never imported here.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any

_METHODS = (
    ("LazyFrame", "join"),
    ("DataFrame", "join"),
    ("LazyFrame", "group_by"),
    ("DataFrame", "group_by"),
    ("LazyFrame", "unique"),
    ("DataFrame", "unique"),
    ("LazyFrame", "sort"),
    ("DataFrame", "sort"),
)
_JOINS = {"right": "right", "full": "left_right", "outer": "left_right"}
_OPTION = "maintain_order"


def keep() -> None:
    """Make polars' frames keep order by default, in this process, if polars is loaded. Again is the same as once."""
    polars = sys.modules.get("polars")
    for owner, name in _METHODS:
        kind = getattr(polars, owner, None)
        method = getattr(kind, name, None)
        if method is not None and not hasattr(method, "__mlops_ordered__") and _OPTION in inspect.signature(method).parameters:
            setattr(kind, name, _ordered(method, join=name == "join"))


def _ordered(method: Callable[..., Any], *, join: bool) -> Callable[..., Any]:
    """The method with another default."""
    parameters = list(inspect.signature(method).parameters)
    how_at = parameters.index("how") if join else -1

    @functools.wraps(method)
    def ordered(*arguments: Any, **options: Any) -> Any:
        if options.get(_OPTION) is None:
            how = options.get("how", arguments[how_at] if 0 < how_at < len(arguments) else "inner")
            options[_OPTION] = _JOINS.get(how, "left") if join else True
        return method(*arguments, **options)

    ordered.__mlops_ordered__ = True  # type: ignore[attr-defined]
    return ordered
