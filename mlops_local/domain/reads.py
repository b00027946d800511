"""What to say of a file or variable that a step read and did not declare, and which line makes it an input."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from mlops_local.domain.plan import StepResult

_TABLES = {".parquet", ".csv", ".tsv", ".jsonl", ".ndjson", ".arrow", ".ipc", ".feather"}


def sentence(path: str, source: str = "") -> str:
    """One line on an undeclared read.

    Args:
        path: relative to the project's root; a file, a pattern or a folder.
        source: the declared source it belongs to, if any.
    """
    return f"reads {path} undeclared: changes to it are not noticed; {remedy(path, source)}"


def remedy(path: str, source: str = "") -> str:
    """What to write so that the file becomes an input."""
    if source:
        return f"take {source} as an argument"
    if path.startswith(".."):
        return "link it into the project and declare the link with mlops.data"
    return f"add `{line(path)}` and take {name(path)} as an argument"


def line(path: str) -> str:
    """The declaration of a source: `extra = mlops.data("data/extra.csv")`."""
    table = PurePosixPath(path).suffix.lower() in _TABLES
    pattern = path if PurePosixPath(path).suffix or "*" in path else f"{path}/**/*"
    return f'{name(path)} = mlops.data("{pattern}"' + (")" if table else ', kind="files")')


def name(path: str) -> str:
    """A name for the source, from the file's."""
    stem = re.sub(r"\W+", "_", PurePosixPath(path).name.split(".")[0]).strip("_").lower()
    return f"data_{stem}" if not stem or stem[0].isdigit() else stem


def undeclared(result: StepResult) -> list[str]:
    """One line on everything that a step read and its fingerprint does not cover."""
    covered = {part.what.removeprefix("$") for part in result.parts if part.kind == "env" and part.what.startswith("$")}
    asked = sorted(set(result.report.get("variables", ())) - covered)
    said = [
        f'reads ${item} by a name put together: changes to it are not noticed; write os.environ["{item}"]' for item in asked
    ]
    return [*result.report.get("undeclared", ()), *said]
