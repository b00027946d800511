"""Dataclasses that cost little to declare: a hundred of them took half of the time that importing the program took.

`dataclasses.dataclass` compiles up to six functions when a class is declared, used or not. Here comparing, hashing, printing
and freezing are plain functions, and `__init__` is compiled at the first call. Everything else is the standard library's:
fields, `replace`, `asdict`, `match`, type checkers. For classes that users' code makes or derives from take the original.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from operator import attrgetter
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any, TypeVar

T = TypeVar("T")

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(cls: type[T] | None = None, /, *, frozen: bool = False, eq: bool = True) -> Any:
        """Declare a dataclass, as `dataclasses.dataclass` does."""
        return (lambda cls: _declared(cls, frozen, eq)) if cls is None else _declared(cls, frozen, eq)


def _declared(cls: type[T], frozen: bool, eq: bool) -> type[T]:
    if cls.__doc__ is None:
        cls.__doc__ = cls.__name__  # otherwise the standard library writes its signature there, at some cost
    cls = dataclasses.dataclass(init=False, repr=False, eq=False)(cls)
    own = dict(vars(cls))
    methods: dict[str, Any] = {"__init__": _first_call(cls, frozen), "__repr__": _shown}
    if eq:
        methods |= {"__eq__": _equal, "__hash__": _hash if frozen else None}
    if frozen:
        methods |= {"__setattr__": _refuse_to_set, "__delattr__": _refuse_to_delete}
    for name, method in methods.items():
        if name not in own:
            setattr(cls, name, method)
    return cls


def _first_call(cls: type[Any], frozen: bool) -> Callable[..., None]:
    """An `__init__` that puts the real one in its place: the standard library's, made for a class of the same fields."""

    def __init__(self: Any, *values: Any, **named: Any) -> None:
        fields = {item.name: item for item in dataclasses.fields(cls)}
        body: dict[str, Any] = {"__annotations__": {name: item.type for name, item in fields.items()}, "__doc__": cls.__name__}
        body |= {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
        if hasattr(cls, "__post_init__"):
            body["__post_init__"] = cls.__post_init__
        made: Any = dataclasses.dataclass(frozen=frozen, repr=False, eq=False)(type(cls.__name__, (), {**fields, **body}))
        cls.__init__ = made.__init__
        made.__init__(self, *values, **named)

    return __init__


def _values(cls: type[Any]) -> Callable[[Any], Any]:
    """What gives the values that are compared; kept with the class."""
    if "__values__" not in vars(cls):
        names = [item.name for item in dataclasses.fields(cls) if item.compare]
        # Several names give a tuple, one gives its value, none is an error.
        getter = attrgetter(*names) if len(names) > 1 else lambda record: tuple(getattr(record, name) for name in names)
        cls.__values__ = staticmethod(getter)
    found: Callable[[Any], Any] = cls.__values__
    return found


def _equal(self: Any, other: object) -> Any:
    if other.__class__ is not self.__class__:
        return NotImplemented
    values = _values(self.__class__)
    return values(self) == values(other)


def _hash(self: Any) -> int:
    return hash(_values(self.__class__)(self))


@recursive_repr()
def _shown(self: Any) -> str:
    shown = (f"{item.name}={getattr(self, item.name)!r}" for item in dataclasses.fields(self) if item.repr)
    return f"{self.__class__.__qualname__}({', '.join(shown)})"


def _refuse_to_set(self: Any, name: str, value: object) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_to_delete(self: Any, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
