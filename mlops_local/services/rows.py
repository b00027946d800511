"""A snapshot's rows as tables for SQL: `data.flights` is its newest snapshot, `data."flights@~1"` the one before.

Only snapshots that a statement names are made readable, and only for that statement.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mlops_local.domain.errors import UsageError
from mlops_local.services import contents, references
from mlops_local.services.project import Project
from mlops_local.store.database import quote
from mlops_local.store.sealed import Extra

_NAMED = re.compile(r"""\bdata\s*\.\s*(?:"((?:[^"]|"")+)"|([A-Za-z_]\w*))""", re.IGNORECASE)


def extra(project: Project, text: str) -> Extra:
    """Return the views over snapshots that a statement names, and the files they read.

    Args:
        project: the project.
        text: the statement; what is no snapshot is left for DuckDB to say.

    Raises:
        DataError: a snapshot's file is gone and has no stored copy.
        AmbiguousReference: a name stands for several snapshots.
    """
    statements, files = [], []
    for name in dict.fromkeys(_names(text)):
        try:
            snapshot = references.snapshot(project, name)
        except UsageError as error:
            if "@" in name:  # meant as a snapshot for sure
                raise
            del error
            continue
        held = contents.of(project, snapshot)
        view = 'data.main."' + name.replace('"', '""') + '"'
        if held.kind == "table":
            paths = [str(path) for path in contents.tables(project, held).values()]
            listed = ", ".join(map(quote, paths))
            statements.append(f"CREATE VIEW {view} AS FROM read_parquet([{listed}], hive_partitioning = false)")
            files += paths
        else:
            which = f"snapshot = {quote(snapshot.id)} AND source = {quote(snapshot.source)}"
            statements.append(f"CREATE VIEW {view} AS SELECT path, bytes, hash FROM project.main.snapshot_file WHERE {which}")
    return Extra(("ATTACH ':memory:' AS data", *statements), tuple(files)) if statements else Extra()


def _names(text: str) -> Iterator[str]:
    for found in _NAMED.finditer(text):
        yield found[1].replace('""', '"') if found[1] is not None else found[2]
