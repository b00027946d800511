"""Profile what was appended to a text file, and add it to what the file was found to hold before: 1 % of new rows costs 1 %.

Where that could say anything else than a look at the whole file, nothing is said: then the whole file is to be looked at, and
whatever is wrong with it is found there. The caller has proved that the file begins with all that it held.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlops_local.engines.data import sketch, text
from mlops_local.engines.data.sketch import Sketch

_STRETCH = 32 << 20
"""Bytes looked at together: some 200 MB as rows."""
_PACKED = (b"\x1f\x8b", b"\x28\xb5")
"""How gzip and zstd begin: polars unpacks them by itself."""


def grown(
    file: Path, size: int, before: Mapping[str, Sketch], kinds: Mapping[str, Any], *, form: str, delimiter: str
) -> dict[str, Sketch] | None:
    """Return the sketches of a file that has only grown, or None where all of it has to be looked at.

    Args:
        file: to read.
        size: how many bytes it had.
        before: the sketches of those.
        kinds: the types its columns are read as, then and now.
        form: csv, or lines (of JSON).
        delimiter: what parts the values of a CSV.
    """
    import polars as pl  # noqa: PLC0415  (141 ms, and only when a file changed)

    from mlops_local.engines.data import columns, spread  # noqa: PLC0415  (numpy, 60 ms)

    with columns.threads() as pool, file.open("rb") as raw:
        begins = raw.read(2)
        raw.seek(size - 1)
        if begins in _PACKED or raw.read(1) != b"\n":  # of the last line, more may have come
            return None
        made = columns.Columns(kinds, pool)
        try:
            for stretch in _stretches(raw):
                frame = _rows(stretch, kinds, form, delimiter)
                if frame is None:
                    return None
                made.feed(frame)
        except pl.exceptions.PolarsError:
            return None
        parts = made.done()
    found = {}
    for name, part in parts.items():
        found[name] = sketch.add([before[name], part])
        found[name].points = spread.fewer(found[name].points)
    return found


def _stretches(raw: io.BufferedReader) -> Iterator[bytes]:
    """The rest of a file in pieces that end at the end of a line."""
    rest = b""
    while block := raw.read(_STRETCH):
        end = block.rfind(b"\n") + 1
        if end:
            yield rest + block[:end]
        rest = block[end:] if end else rest + block
    if rest:
        yield rest


def _rows(stretch: bytes, kinds: Mapping[str, Any], form: str, delimiter: str) -> Any:
    """Lines as a frame; None where they may not be whole rows."""
    import polars as pl  # noqa: PLC0415

    if form == "lines":
        if not pl.scan_ndjson(io.BytesIO(stretch), infer_schema_length=None).collect_schema().keys() <= kinds.keys():
            return None  # a field that comes late is refused
        return pl.scan_ndjson(io.BytesIO(stretch), schema=dict(kinds)).collect(engine="streaming")
    if stretch[:1] in b"\r\n":  # polars passes over empty lines at the beginning, elsewhere they are rows
        return None
    times = any(kind.is_temporal() for kind in kinds.values())
    scan = pl.scan_csv(io.BytesIO(stretch), has_header=False, separator=delimiter, try_parse_dates=times, schema=dict(kinds))
    frame = scan.collect(engine="streaming")
    suspect = b'"' in stretch or frame.to_series(-1).null_count()  # see `profile`: too few values become nulls
    return None if suspect and not _whole(stretch, len(kinds), delimiter) else frame


def _whole(stretch: bytes, width: int, delimiter: str) -> bool:
    """Whether each line of a CSV, or each record of several, has as many values as there are columns, quoted as usual."""
    if not text.quoted_as_usual(io.BytesIO(stretch), delimiter):
        return False
    try:
        reader = csv.reader(io.StringIO(stretch.decode(), newline=""), delimiter=delimiter, strict=True)
        return all(len(values) == width for values in reader)
    except (UnicodeDecodeError, csv.Error):
        return False
