"""What is known of Python's and the data libraries' functions: which of them change nothing but what they return.

A function that is not known here counts as one that may change anything. Prefixes name the exceptions within a known module.
"""

from __future__ import annotations

import builtins

OURS = "mlops_local"
_LOUD = (
    "add", "activate", "append", "basic", "chdir", "clear", "config", "configure", "delete", "disable", "enable", "exec",
    "extend", "filterwarnings", "hook", "init_", "insert", "install", "load_dotenv", "manual_seed", "mkdir", "monkey", "patch",
    "pop", "put", "register", "remove", "rename", "resize", "reverse", "save", "seed", "set", "shuffle", "simplefilter", "sink",
    "sort", "symlink", "system", "task", "touch", "uninstall", "unlink", "update", "use", "write",
)  # fmt: skip
"""How names of calls begin that change something elsewhere."""
_QUIET_WORDS = {"add", "setdiff1d", "set", "config", "hook", "sort_by", "user_data_dir", "basename", "extend_constant"}
"""Names that begin so and do not, where the module is known (a bare `set` is Python's)."""
_BUILTINS = {name for name in dir(builtins) if not name.startswith("_")} - {
    "exec", "eval", "compile", "setattr", "delattr", "open", "globals", "locals", "vars", "next", "anext", "input",
    "breakpoint",
    "print", "exit", "quit", "copyright", "credits", "license", "help",
}  # fmt: skip
_ITERATORS = {"iter", "map", "zip", "filter", "enumerate", "reversed", "aiter", "memoryview", "open"}
"""Builtins whose result is used up, or changes, when it is looked at."""
_KEEPERS = {
    "partial", "dict", "list", "tuple", "set", "frozenset", "OrderedDict", "field", "namedtuple", "property", "staticmethod",
    "classmethod", "SimpleNamespace", "MappingProxyType", "NewType", "TypeVar", "NamedTuple", "isinstance", "issubclass",
    "type",
    "callable", "id", "len", "defaultdict", "wraps",
}  # fmt: skip
"""Calls that keep what they are given and do not call it."""
_MODULES: dict[str, tuple[str, ...]] = {
    "abc": (), "base64": (), "cmath": (), "collections": ("deque",), "contextvars": (), "copy": (), "dataclasses": (),
    "datetime": (), "decimal": ("set", "get", "local"), "enum": (), "fractions": (), "functools": ("cache", "lru"),
    "hashlib": (),
    "json": ("dump",), "math": (), "numbers": (), "operator": ("i", "set", "del"), "pathlib": (), "platform": (),
    "re": ("finditer", "purge"),
    "statistics": (), "string": (), "struct": ("pack_into",), "textwrap": (), "time": (), "tomllib": (), "types": (),
    "typing": (),
    "typing_extensions": (), "uuid": (), "zoneinfo": (), "itertools": (),
    "logging": ("basic", "disable", "set", "add", "capture", "shutdown"),
    "numpy": ("random", "set", "put", "place", "copyto", "fill_diagonal", "save", "errstate", "lib", "ctypeslib", "testing"),
    "polars": ("Config", "set", "enable", "disable", "register", "api", "using", "StringCache", "SQL"),
    "pandas": ("set_", "option", "reset", "api", "register", "ExcelWriter", "HDFStore"),
    "scipy": ("io", "fft"), "sklearn": ("set_config", "config_context", "datasets"),
}  # fmt: skip
"""Known module -> how the names in it begin that are not quiet."""
_ONLY = {
    "os": {"getenv", "environ", "path", "cpu_count", "getcwd", "sep", "fspath", "name", "listdir", "pathsep", "linesep"},
    "sys": {"version_info", "platform", "maxsize", "byteorder", "getsizeof", "executable", "version", "argv"},
    "torch": {"device", "dtype", "float16", "float32", "float64", "int32", "int64", "bfloat16", "bool"},
    "random": {"Random"},
    "importlib": {"metadata"},
}
"""Modules of which only these names are quiet."""
_CHANGING = {"defaultdict", "Counter", "Random", "default_rng", "count", "cycle", "getLogger", "ContextVar", "local", "deque"}
"""Quiet to make, and changed by being used."""
MUTATORS = {
    "append", "appendleft", "clear", "discard", "extend", "extendleft", "insert", "popitem", "pop", "popleft", "remove",
    "reverse", "rotate", "setdefault", "sort", "subtract", "update", "fill", "itemset", "partition", "resize", "setflags",
    "send", "throw", "close", "read", "readline", "readlines", "seek", "mkdir", "rmdir", "unlink", "touch", "chmod",
    "write_text",
    "__delitem__", "__iadd__", "__iand__", "__imul__", "__ior__", "__isub__", "__ixor__", "__next__", "write_bytes",
    "open", "symlink_to", "hardlink_to", "rename", "insert_column", "replace_column", "drop_in_place", "shuffle", "scatter",
    "move_to_end", "eliminate_zeros", "sum_duplicates", "prune", "fit", "fit_predict", "fit_transform", "partial_fit", "lchmod",
    "at",
}  # fmt: skip
"""Methods of known objects that change them, or a file."""
_DECORATORS: dict[str, tuple[str, ...]] = {
    "attr": (), "attrs": (), "beartype": (), "functools": (), "cachetools": (), "contextlib": (), "deprecated": (),
    "jax": (), "jaxtyping": (), "joblib": (), "numba": ("extending",), "overrides": (), "pydantic": (), "pytest": (),
    "tenacity": (), "torch": ("library", "fx"),
    "typeguard": (), "wrapt": (),
}  # fmt: skip
"""Library whose decorators keep nothing of what they decorate -> how the names in it begin that do."""
_INPUTS = {
    "absolute": 1, "cos": 1, "exp": 1, "floor": 1, "isnan": 1, "log": 1, "log10": 1, "log1p": 1, "negative": 1, "rint": 1,
    "sign": 1, "sin": 1, "sqrt": 1, "square": 1, "tanh": 1,
    "arange": 9, "array": 9, "choose": 9, "clip": 3, "digitize": 9, "einsum": 99, "full": 9, "histogram": 9, "interp": 9,
    "linspace": 9, "pad": 9, "percentile": 3, "quantile": 3, "repeat": 9, "reshape": 9, "roll": 9, "searchsorted": 9,
    "select": 9, "split": 9, "take": 3, "tensordot": 9, "where": 9,
}  # fmt: skip
"""numpy's functions that take other than two inputs; the argument after those is written to."""
_METHODS = {name for kind in (str, dict, list, tuple, int, float, set) for name in dir(kind)} | {
    "alias", "over", "mean", "std", "max", "min", "sum", "abs", "cast", "select", "filter", "with_columns", "group_by", "agg",
    "collect", "lazy", "to_list", "to_dict", "to_numpy", "astype", "reshape", "round", "clip", "read_text", "read_bytes",
    "exists", "resolve", "with_suffix", "strftime", "isoformat", "date", "fill_null", "is_null", "is_in", "dt",
}  # fmt: skip


def is_loud(name: str) -> bool:
    """Whether a name says that calling it changes something elsewhere."""
    return name not in _QUIET_WORDS and name.lstrip("_").startswith(_LOUD)


def builtin(name: str) -> bool:
    """Whether calling this builtin changes nothing."""
    return name in _BUILTINS


def keeps(name: str) -> bool:
    """Whether a call by this name never calls what it is given."""
    return name in _KEEPERS


def passing_method(name: str) -> bool:
    """Whether a method of this name of data of any sort leaves it alone."""
    return name in _METHODS and name not in MUTATORS and not is_loud(name)


def library(words: tuple[str, ...]) -> bool:
    """Whether calling (or reading) this name from outside the project, `("polars", "col")`, changes nothing."""
    top, rest = words[0], words[1:]
    if top == OURS:
        return True
    if top in _ONLY:
        return not rest or rest[0] in _ONLY[top]
    if top not in _MODULES:
        return False
    return not any(word.startswith(_MODULES[top]) for word in rest if _MODULES[top]) and not any(
        is_loud(word) for word in rest[-1:] if top not in ("operator", "numpy")
    )


def decorator(words: tuple[str, ...]) -> bool:
    """Whether decorating with this from outside the project keeps what it is given nowhere."""
    top, rest = words[0], words[1:]
    if top not in _DECORATORS:
        return library(words) and not any(is_loud(word) for word in rest)
    return not any(is_loud(word) or word.startswith(_DECORATORS[top] or "\0") for word in rest)


def inputs(words: tuple[str, ...]) -> int:
    """How many arguments of a call of this are only read: numpy writes to the one after them."""
    return _INPUTS.get(words[-1], 2) if words[0] == "numpy" else 99


def lasting(words: tuple[str, ...]) -> bool:
    """Whether what it gives stays as it is, however often it is looked at."""
    return library(words) and words[0] != "itertools" and words[-1] not in _CHANGING


def lasting_builtin(name: str) -> bool:
    """As `lasting`, for a builtin or one of the names every module has."""
    return (builtin(name) and name not in _ITERATORS) or name in ("__name__", "__file__", "__doc__", "__package__")
