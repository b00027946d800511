"""Small CSVs of one form read as one text: what there is to do for each file is then done once for dozens of them.

Where anything about a file is unusual, nothing is said: then each is to be looked into by itself, and what is wrong with one is
found there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_local.engines.data.sketch import Sketch

if TYPE_CHECKING:
    import polars as pl

SMALL = 256_000
"""Bytes of a file up to which reading it again costs no more than keeping what it holds: 64 of them are 100 MB as rows."""


def sketched(files: Sequence[Path], kinds: Mapping[str, Any], delimiter: str) -> tuple[list[int], dict[str, Sketch]] | None:
    """Return the rows of each file, and the sketches of the columns of all of them; None where they have to be read one by one.

    Args:
        files: CSVs.
        kinds: the types their columns are read as, in order.
        delimiter: what parts the values.
    """
    import polars as pl  # noqa: PLC0415  (141 ms, and only where rows are read)

    from mlops_local.engines.data.columns import Columns, threads  # noqa: PLC0415  (numpy, 60 ms)

    header = (delimiter.join(kinds) + "\n").encode()
    rows, texts = [], []
    for file in files:
        content = _rows(file, header)
        if content is None:
            return None
        count = content.count(b"\n")
        if content.count(delimiter.encode()) != count * (len(kinds) - 1):  # polars fills a short line with nulls
            return None
        rows.append(count)
        texts.append(content)
    try:
        with threads() as pool:
            columns = Columns(kinds, pool)
            columns.feed(_frame(header, texts, kinds, delimiter))
            found = columns.done()
    except pl.exceptions.PolarsError:
        return None
    return (rows, found) if next(iter(found.values())).rows == sum(rows) else None


def _rows(file: Path, header: bytes) -> bytes | None:
    """The lines behind a file's header; None where it is large, has another header, or lines that may not be plain rows."""
    if file.stat().st_size > SMALL:
        return None
    content = file.read_bytes()
    if content[-1:] != b"\n":
        content += b"\n"
    odd = not content.startswith(header) or b'"' in header or b'"' in content or b"\r" in content or b"\n\n" in content
    return None if odd else content[len(header) :]


def _frame(header: bytes, texts: Sequence[bytes], kinds: Mapping[str, Any], delimiter: str) -> pl.DataFrame:
    """All rows; each text by itself where there are times, which one file may write otherwise than the next."""
    import polars as pl  # noqa: PLC0415  (as above)

    times = any(kind.is_temporal() for kind in kinds.values())
    filled = [text for text in texts if text]
    parts = filled if times else [b"".join(filled)]
    frames = [
        pl.scan_csv(header + text, separator=delimiter, try_parse_dates=times, schema=dict(kinds)).collect(engine="streaming")
        for text in parts
    ]
    return pl.concat(frames) if frames else pl.DataFrame(schema=dict(kinds))
