"""Files a run keeps: copied into the object store by content, under a name relative to the run.

What is kept stays what it was when it was logged. Loads the object store's hash, and polars for tables, only when called.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any, NamedTuple

from mlops_local.domain.errors import UsageError
from mlops_local.store.layout import Layout

LONGEST = 1000
"""Characters of an artifact's name."""
_MAGIC = {
    b"\x89PNG": ".png",
    b"\xff\xd8\xff": ".jpg",
    b"GIF8": ".gif",
    b"RIFF": ".webp",
    b"%PDF": ".pdf",
    b"<svg": ".svg",
    b"<?xml": ".svg",
}


class Kept(NamedTuple):
    """A file in the object store."""

    path: str
    """Its name within the run."""
    object: str
    bytes: int


def files(layout: Layout, source: Path, name: str) -> list[Kept]:
    """Keep a file, or every file of a folder.

    Args:
        layout: the store.
        source: what to keep. A relative path stays within the project.
        name: what it is called in the run; empty for the path itself within the project, else its last part.

    Raises:
        UsageError: it is not there, is no file or folder, leaves the project or its folder, or holds the store.
    """
    real = Path(os.path.realpath(source))
    if not real.exists():
        raise UsageError(f"log_artifact: there is no file or folder {source}", hint="log it after it was written")
    root = layout.root.resolve()
    if not source.is_absolute() and not real.is_relative_to(root):
        raise UsageError(
            f"log_artifact: {source} leads out of the project, to {real}", hint="pass its absolute path if it is meant"
        )
    if real == layout.state or real.is_relative_to(layout.state) or layout.state.is_relative_to(real):
        raise UsageError(
            f"log_artifact: {source} holds the store itself (.mlops)", hint="log the folder with the results alone"
        )
    called = _name(name) if name else _own_name(source, real, root)
    if real.is_dir():
        return [_keep(layout, found, f"{called}/{inside}") for found, inside in _within(source, real)]
    return [_keep(layout, real, called)]


def table(layout: Layout, name: str, rows: Any) -> Kept:
    """Keep a table as Parquet.

    Args:
        layout: the store.
        name: what it is called in the run; `.parquet` is added.
        rows: a polars or pandas frame, a mapping of columns or a list of rows.

    Raises:
        UsageError: it is no table.
    """
    from mlops_local.api.load import frame_of  # polars: only scripts that log tables pay

    try:
        frame = frame_of(rows)
    except Exception as error:  # the table library's own errors, of many kinds
        raise UsageError(
            f"log_table: {name!r} is no table: {error}", hint="pass a frame, a dict of columns or a list of rows"
        ) from error
    with _draft(layout) as path:
        frame.write_parquet(path)
        return _adopt(layout, path, _name(name, ".parquet"))


def figure(layout: Layout, name: str, picture: Any) -> Kept:
    """Keep a picture.

    Args:
        layout: the store.
        name: what it is called in the run; the form's ending is added.
        picture: a matplotlib figure or axes, a Pillow image, or the bytes of an image file.

    Raises:
        UsageError: it is none of these.
    """
    drawn = picture.figure if hasattr(picture, "figure") and not hasattr(picture, "savefig") else picture
    with _draft(layout) as path:
        if isinstance(picture, (bytes, bytearray, memoryview)):
            data = bytes(picture)
            path.write_bytes(data)
            ending = next((ending for magic, ending in _MAGIC.items() if data.startswith(magic)), "")
        elif hasattr(drawn, "savefig"):
            drawn.savefig(path, format="png")
            ending = ".png"
        elif hasattr(picture, "save"):
            picture.save(path, format="PNG")
            ending = ".png"
        else:
            raise UsageError(
                f"log_figure: a {type(picture).__name__} is no picture",
                hint="pass a matplotlib figure, a Pillow image or an image file's bytes",
            )
        return _adopt(layout, path, _name(name, ending))


def text(layout: Layout, name: str, content: str) -> Kept:
    """Keep a text under a name of ours."""
    data = content.encode("utf-8", "backslashreplace")
    return Kept(name, _objects().put_bytes(layout, data), len(data))


def _name(name: str, ending: str = "") -> str:
    """A name within the run, checked: whoever puts the files back somewhere must stay in that folder."""
    parts = PurePosixPath(name).parts
    if not parts or len(name) > LONGEST or "\0" in name or PurePosixPath(name).is_absolute() or ".." in parts:
        raise UsageError(
            f"an artifact cannot be called {name[:80]!a}", hint="give a relative name without .., as in `plots/roc.png`"
        )
    made = PurePosixPath(*parts).as_posix()
    return made if not ending or made.lower().endswith(ending) else made + ending


def _own_name(source: Path, real: Path, root: Path) -> str:
    given = Path(os.path.abspath(source))  # noqa: PTH100  (a link keeps its own name)
    return given.relative_to(root).as_posix() if given.is_relative_to(root) and given != root else real.name


def _within(source: Path, real: Path) -> Iterator[tuple[Path, str]]:
    """Every file of a folder with its name in it. A link that leads out of the folder is refused."""
    found = False
    for folder, inner, names in os.walk(real):
        for link in sorted([*names, *(name for name in inner if Path(folder, name).is_symlink())]):
            place = Path(folder, link)
            target = Path(os.path.realpath(place))
            if not target.is_relative_to(real):
                raise UsageError(
                    f"log_artifact: {place.relative_to(real)} in {source} leads out of the folder, to {target}",
                    hint="log what it leads to by itself, or leave the link out",
                )
            if target.is_file():
                found = True
                yield target, place.relative_to(real).as_posix()
    if not found:
        raise UsageError(f"log_artifact: the folder {source} holds no file", hint="log it after it was written")


def _keep(layout: Layout, real: Path, name: str) -> Kept:
    if not stat.S_ISREG(real.stat().st_mode):
        raise UsageError(f"log_artifact: {real} is no file", hint="pipes and devices cannot be kept")
    kept = _objects().put_file(layout, real)
    return Kept(name, kept, real.stat().st_size)


@contextmanager
def _draft(layout: Layout) -> Iterator[Path]:
    path = layout.tmp / f"artifact.{secrets.token_hex(8)}"
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _adopt(layout: Layout, draft: Path, name: str) -> Kept:
    size = draft.stat().st_size
    return Kept(name, _objects().adopt(layout, draft), size)


def _objects() -> ModuleType:
    try:
        from mlops_local.store import objects  # loads the hash, which a script's own environment may lack
    except ImportError as error:
        raise UsageError(
            f"files are kept by their BLAKE3 hash, and {error.name} is not installed here", hint="pip install blake3"
        ) from error
    return objects
