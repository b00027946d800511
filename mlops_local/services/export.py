"""Take what the store knows of runs elsewhere, as files: Parquet, CSV or JSON lines."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from mlops_local.domain.errors import UsageError
from mlops_local.domain.records import dataclass
from mlops_local.services.project import Project
from mlops_local.store import exporting, projection


@dataclass(frozen=True)
class Exported:
    """What was written."""

    folder: str
    files: Mapping[str, int]
    """File -> rows."""


def runs(project: Project, form: str, folder: Path) -> Exported:
    """Write runs with their parameters, metrics, tags, notes, files and steps to a new folder: whole, or not at all.

    Args:
        project: the project.
        form: parquet, csv or json.
        folder: not there yet, or empty.

    Raises:
        UsageError: something is in the folder, or it cannot be written.
    """
    projection.fold(project.store)
    whole = folder.absolute()  # `.` has no name
    draft = whole.with_name(f".{whole.name}.{os.getpid()}.part")
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UsageError(f"{folder} is there already", hint="name another folder: mlops export runs --to csv DIR")
        draft.mkdir(parents=True)
        with project.store.reader() as db:
            files = exporting.write(db, form, draft)
        draft.replace(folder)
    except OSError as error:
        raise UsageError(
            f"cannot write {folder}: {error.strerror or error}", hint="name a folder you may write to, on a disk with room"
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return Exported(str(folder), files)
