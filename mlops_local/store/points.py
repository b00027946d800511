"""The points of one transaction: from the journals' files into the temporary table `batch`, checked.

DuckDB reads JSON four times as fast as Python, and files side by side: whole segments that nobody writes to are read where they
lie, everything else from a few files it is gathered in. Writes no table of the project.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from mlops_local.domain import events
from mlops_local.domain.errors import IntegrityError
from mlops_local.domain.sql import quote
from mlops_local.store import facts, files, journal
from mlops_local.store.database import Db
from mlops_local.store.layout import Layout
from mlops_local.store.lines import dumps
from mlops_local.store.parts import FIRST_US, LAST_US, Part

READ_BYTES = 1 << 20
"""Read at once by Python; no line is longer."""
_WHOLE_BYTES = 1 << 20
"""A file below this is gathered with others: opening thousands takes longer than copying them."""
_SIDE_BY_SIDE = 2
"""Files that points are gathered in: a file is read by one of DuckDB's threads."""
_COLUMNS = (
    "columns = {k: 'VARCHAR', v: 'INTEGER', t: 'BIGINT', n: 'BIGINT', r: 'VARCHAR', key: 'VARCHAR', s: 'DOUBLE', "
    "x: 'DOUBLE', dropped: 'BIGINT'}"
)
_ODD = (
    "k IS NULL OR r IS NULL OR t IS NULL OR n IS NULL OR v IS NULL OR v > ? "
    f"OR t NOT BETWEEN {FIRST_US} AND {LAST_US} OR (k = 'm' AND (key IS NULL OR x IS NULL)) "
    "OR (k = 'gap' AND dropped IS NULL) OR k NOT IN ('m', 'gap')"
)
"""A line that a table does not take as it is."""


@dataclass
class _Source:
    """A file that DuckDB reads, and which bytes of which journals it holds."""

    path: Path
    pieces: list[tuple[Part, int, int]] = field(default_factory=list)
    """A part, from where on, how many bytes."""
    own: bool = True
    """Made by us, for this transaction."""

    @property
    def size(self) -> int:
        return sum(size for _, _, size in self.pieces)


class Points:
    """Points collected for one transaction."""

    def __init__(self, db: Db, layout: Layout) -> None:
        self._db = db
        self._gathered = [_Source(layout.tmp / f"fold.{number}.jsonl") for number in range(_SIDE_BY_SIDE)]
        self._whole: list[_Source] = []
        self.size = 0
        """Bytes collected."""
        self.damage: list[tuple[str, int, int]] = []
        """File, position and bytes of what is no line; known after `stage`."""
        self._passed = 0

    def take_whole(self, part: Part) -> bool:
        """Take a file as it lies there, if it can be read so; nobody may write to it any more."""
        if part.kept is not None or part.position:
            return False
        size = part.path.stat().st_size
        if size < _WHOLE_BYTES or part.read(size - 1, 1) != b"\n":
            return False
        self._whole.append(_Source(part.path, [(part, 0, size)], own=False))
        self.size += size
        return True

    def take(self, part: Part, position: int, data: bytes) -> None:
        """Take whole lines of a file, read at this position. Raises MlopsError when the disk is full."""
        source = min(self._gathered, key=lambda one: one.size)
        try:
            with source.path.open("ab" if source.pieces else "wb") as file:
                file.write(data)
        except OSError as error:
            source.path.unlink(missing_ok=True)
            raise files.cannot_write(source.path, error) from error
        source.pieces.append((part, position, len(data)))
        self.size += len(data)

    def stage(self) -> int:
        """Load everything into the table; return how many lines that is. Not in a transaction: a load that fails ends it.

        Raises:
            NewerStore: a line's version is newer.
            MlopsError: the disk is full.
        """
        sources = [source for source in (*self._whole, *self._gathered) if source.pieces]
        if not sources:
            return 0
        lines = self._load([source.path for source in sources])
        if lines is None:  # which of the files it is; only that one goes line by line through Python
            paths = [source.path if self._load([source.path]) is not None else self._mended(source) for source in sources]
            lines = self._load(paths, check=False)
        if lines is None:
            raise IntegrityError("journal lines that were mended still do not load", hint="run `mlops doctor`")
        return lines + self._passed

    def drop(self) -> None:
        """Give back the memory and the files that loading took."""
        if self.size:
            with suppress(duckdb.Error):  # the transaction failed: the next batch takes the table's place
                self._db.execute("DROP TABLE IF EXISTS temp.batch")
            for source in (*self._whole, *self._gathered):
                with suppress(OSError):
                    if source.own:
                        source.path.unlink(missing_ok=True)

    # -- within

    def _load(self, paths: list[Path], *, check: bool = True) -> int | None:
        """Fill the table from these files; None if a line is not what it should be, or a file grew meanwhile."""
        listed = ", ".join(quote(str(path)) for path in paths)
        try:
            self._db.execute(
                "CREATE OR REPLACE TEMP TABLE batch AS SELECT * FROM "
                f"read_json([{listed}], format = 'newline_delimited', {_COLUMNS})"
            )
        except (duckdb.InvalidInputException, duckdb.ConversionException):
            return None
        ((lines, odd),) = self._db.execute(
            f"SELECT count(*), count(*) FILTER ({_ODD}) FROM temp.batch", [events.VERSIONS[events.METRIC]]
        ).fetchall()
        grown = check and any(source.path in paths and source.path.stat().st_size != source.size for source in self._whole)
        return None if odd or grown else int(lines)

    def _mended(self, source: _Source) -> Path:
        """The sound lines of a source in a file of their own; the others are noted as damage."""
        kept = b"".join(made for piece in source.pieces for made in self._sound(*piece))
        if source.own:
            source.path.unlink()
        mended = _Source(self._gathered[0].path.with_name(f"mended.{source.path.name}"), source.pieces)
        files.replace(mended.path, kept)
        self._gathered.append(mended)
        return mended.path

    def _sound(self, part: Part, position: int, size: int) -> Iterator[bytes]:
        end = position + size
        while position < end:
            data = part.read(position, min(READ_BYTES, end - position))
            data = data[: data.rfind(b"\n") + 1] or data
            lines, damaged = journal.decode(data)
            for line in lines:
                made = mend(line) if facts.check_version(line) else None
                if made is None:
                    damaged.append((0, len(facts.text(line))))
                elif made:
                    yield made
                else:
                    self._passed += 1
            self._passed += len(damaged)
            self.damage += [(part.name, position + offset, length) for offset, length in damaged]
            position += len(data)


def mend(line: Mapping[str, Any]) -> bytes | None:
    """Return a metric file's line as the bulk reader takes it; None if it is not one."""
    try:
        made: dict[str, Any] = {"k": line["k"], "v": line["v"], "t": _whole(line["t"]), "n": _whole(line["n"])}
        facts.moment(made["t"])
        made["r"] = facts.clean(line["r"])
        if line["k"] == events.METRIC:
            made |= {"key": facts.clean(line["key"]), "s": facts.real(line["s"]), "x": float(line["x"])}
        elif line["k"] == events.GAP:
            made["dropped"] = _whole(line["dropped"])
        else:
            return b""  # a kind of a newer program: it stays in the journal
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return dumps(made).encode() + b"\n"


def _whole(value: Any) -> int:
    """A number that a BIGINT holds. Raises TypeError, ValueError, OverflowError."""
    made = int(value)
    if not -(2**63) <= made < 2**63:
        raise OverflowError
    return made
