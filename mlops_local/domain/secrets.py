"""What may be recorded of a process: an allow-list of variables and a command line with its secrets struck out.

Recording nothing is the default; a name or value that looks like a secret is never kept. Pure text in, text out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

STRUCK = "***"

_ALLOWED = re.compile(
    r"^(CUDA_VISIBLE_DEVICES|OMP_NUM_THREADS|MKL_NUM_THREADS|OPENBLAS_NUM_THREADS|POLARS_\w+|PYTHONHASHSEED|LANG|LC_\w+|TZ|MLOPS_\w+)$"
)
_SECRET_NAME = re.compile(r"(token|key|secret|passw(or)?d|credential|auth)s?$", re.IGNORECASE)
_SECRET_VALUE = re.compile(
    r"(sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|AKIA[0-9A-Z]{16}|xox[abprs]-[A-Za-z0-9-]{10,}|eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----|glpat-[A-Za-z0-9_-]{16,}|hf_[A-Za-z0-9]{20,})"
)
_URL_PASSWORD = re.compile(r"(\w+://[^/\s:@]+):[^/\s@]+@")


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that may be recorded, by allow-list and without secret names or values."""
    names = sorted(name for name in variables if _ALLOWED.match(name) and not is_secret_name(name))
    return {name: value for name in names if not _SECRET_VALUE.search(value := variables[name])}


@lru_cache(maxsize=4096)  # the same few names, in each of ten thousand runs
def is_secret_name(name: str) -> bool:
    """Whether a variable, option or parameter of that name holds a secret."""
    return bool(_SECRET_NAME.search(name.strip("-").replace("-", "_").split(".")[-1]))


def strike(text: str) -> str:
    """Return the text with anything that looks like a secret struck out."""
    return _URL_PASSWORD.sub(rf"\1:{STRUCK}@", _SECRET_VALUE.sub(STRUCK, text))


def command_line(argv: Sequence[str]) -> list[str]:
    """Return a command line with the values of secret options struck out: `--api-key X`, `--password=X`, `TOKEN=X`."""
    kept: list[str] = []
    strike_next = False
    for word in argv:
        name, equals, _ = word.partition("=")
        if strike_next and not word.startswith("-"):
            kept.append(STRUCK)
        elif equals and is_secret_name(name):
            kept.append(f"{name}={STRUCK}")
        else:
            kept.append(strike(word))
        strike_next = word.startswith("-") and not equals and is_secret_name(name)
    return kept


def parameters(values: Mapping[str, object]) -> dict[str, object]:
    """Return parameters with secret ones struck out, at any depth; a number of tokens or keys (`max_tokens`) is none."""
    return {name: _kept(name, value) for name, value in values.items()}


def _kept(name: str, value: object) -> object:
    count = isinstance(value, (int, float)) and name.lower().endswith(("tokens", "keys"))
    return STRUCK if is_secret_name(name) and not count else _within(value)


def _within(value: object) -> object:
    if isinstance(value, str):
        return strike(value)
    if isinstance(value, Mapping):
        return {key: _kept(str(key), item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return command_line(value) if all(isinstance(item, str) for item in value) else [_within(item) for item in value]
    return value
