"""Look into the columns of large new tables while their bytes are being kept.

Either alone leaves a core idle now and then. What comes of it is kept as if it had been found out afterwards, and only of files
that looked the same before and after. Whatever goes wrong here goes wrong again, and is told, where columns are read in order.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from mlops_local.domain.graph import Source
from mlops_local.domain.listing import RACY_NS, STAMP, Listing
from mlops_local.engines.data import profile
from mlops_local.services import profiles
from mlops_local.services.project import Project

LEAST = 32_000_000
"""Bytes of a source from which on it saves time."""
MOST = 64
"""Files of which all that is found out is held until it can be kept."""


class Ahead:
    """Tables that are being looked into; made by `begin`."""

    def __init__(self, project: Project, source: Source, now: Listing) -> None:
        self._project = project
        self._then = Listing(list(now.paths), now.stamps[:])
        self._found: dict[str, Mapping[str, Any]] = {}
        self._thread = threading.Thread(target=self._look, args=(source,), name="mlops-ahead", daemon=True)
        self._thread.start()

    def keep(self, now: Listing, contents: Mapping[str, str]) -> None:
        """Wait until all is found out, and keep it of files that look now as they did before.

        Args:
            now: the files as they looked when their bytes were read.
            contents: path -> hash of those bytes.
        """
        self._thread.join()
        known = profiles.by_content(self._project, contents)
        for place, path in enumerate(now.paths):
            if path in self._found and now.stamp(place) == self._then.stamp(place):
                known.save(path, self._found[path])

    def _look(self, source: Source) -> None:
        files = {path: self._project.root / path for path in self._then.paths}
        with suppress(Exception):
            profile.sketches(files, label=source.name, known=profile.Known(save=self._found.__setitem__), schema=source.schema)


def prepare(source: Source, now: Listing) -> None:
    """Load what looks into tables while bytes are read: whoever needs it finds it there, or waits for the rest of it.

    Args:
        source: some of whose files are not known.
        now: how they look.
    """
    if _worth(source, now):
        threading.Thread(target=profile.load, name="mlops-load").start()


def _worth(source: Source, now: Listing) -> bool:
    tables = source.kind == "table" and all(profile.form(path) != "opaque" for path in now.paths)
    return tables and sum(now.sizes) >= LEAST and len(now.paths) <= MOST


def begin(project: Project, source: Source, now: Listing) -> Ahead | None:
    """Begin to look into a source's tables; None where that is not worth a thread, or a file was written a moment ago.

    Args:
        project: where the files are.
        source: whose files they are; none of them is known.
        now: how they look.
    """
    if not _worth(source, now):
        return None
    youngest = max(max(now.stamps[2::STAMP]), max(now.stamps[3::STAMP]))
    return Ahead(project, source, now) if time.time_ns() - youngest > RACY_NS else None
