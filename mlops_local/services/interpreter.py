"""Which Python runs the user's code: the project's own, and ours only where the project has none.

In this order: `[project] python`, the active environment, the project's `.venv`, an active conda environment, the one that runs
this program. What is not ours is asked once for its version; after that a stat says whether it is still the same.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_local.domain.errors import ConfigError
from mlops_local.domain.records import dataclass
from mlops_local.services.project import Project
from mlops_local.store import cache

if TYPE_CHECKING:
    from mlops_local.engines.pipeline.runner import Workers

OLDEST = (3, 10)
SETTING = "[project] python"
OURS = "the one mlops runs in"
_VENV = ".venv"
_ASK = "import json, platform, sys; print(json.dumps([sys.executable, sys.prefix, platform.python_version()]))"
_PATIENCE_S = 30.0


@dataclass(frozen=True)
class Interpreter:
    """The Python that imports the project and runs its steps."""

    path: str
    """What is started."""
    version: str
    found: str
    """What led to it: `[project] python`, `$VIRTUAL_ENV`, `.venv`, `$CONDA_PREFIX` or that it is ours."""
    stamp: str
    """Another one when a Python was put in its place."""
    prefix: str
    """Its environment's folder."""
    note: str = ""
    """An environment of the project that was passed over, as a sentence; empty when there is none."""

    @property
    def ours(self) -> bool:
        """Whether it is the one this program runs in."""
        return self.found == OURS

    def shown(self, root: Path) -> str:
        """Its environment as people name it: relative to the project where it lies inside, elsewhere its last folder."""
        prefix = Path(self.prefix)
        if prefix.is_relative_to(root):
            return prefix.relative_to(root).as_posix()
        return prefix.name or self.path

    def sentence(self, root: Path) -> str:
        """Which Python runs the code and why, in a few words."""
        place = OURS if self.ours else f"of {self.shown(root)}, by {self.found}"
        return f"Python {self.version}, {place}" if self.ours else f"Python {self.version} {place}"

    def remark(self, root: Path) -> str:
        """What a person should know who did not start this program in the project's environment; empty when they did."""
        if self.note or self.ours:
            return self.note
        return f"the code runs in {self.sentence(root)}; mlops itself in Python {platform.python_version()}"


@dataclass(frozen=True)
class _Place:
    """A Python that was found, not yet asked."""

    path: Path
    found: str
    note: str = ""


def of(project: Project) -> Interpreter:
    """Find the project's interpreter.

    Raises:
        ConfigError: `[project] python` or the active environment names no Python 3.10 or newer.
    """
    place = choose(project.root, project.config.python, os.environ)
    if place is None:
        return Interpreter(sys.executable, platform.python_version(), OURS, sys.version, sys.prefix)
    stamp = _stamp(place.path)
    wrapper = _is_script(place.path)
    kept = None if wrapper else cache.interpreter(project.layout, stamp)
    path, prefix, version = kept or _asked(place)
    if kept is None and not wrapper:
        cache.save_interpreter(project.layout, stamp, [path, prefix, version])
    if os.path.realpath(prefix) == os.path.realpath(sys.prefix):
        return Interpreter(sys.executable, platform.python_version(), OURS, sys.version, sys.prefix, place.note)
    return Interpreter(path, version, place.found, f"{stamp} {version}", prefix, place.note)


def workers(project: Project) -> Workers:
    """Worker processes in the project's interpreter; they start when they are needed. Raises what `of` raises."""
    from mlops_local.engines.pipeline.runner import Workers  # noqa: PLC0415  (only for what has to run)
    from mlops_local.services import machine  # noqa: PLC0415

    return Workers(project.root, python=of(project).path, cores=machine.limit())


def choose(root: Path, setting: str, environ: Mapping[str, str]) -> _Place | None:
    """Where the project's Python is; None for ours. Looks at files and starts nothing.

    Args:
        root: the project's folder.
        setting: `[project] python`: a Python, an environment's folder (both may be relative to the root), a command on PATH.
        environ: the environment variables.

    Raises:
        ConfigError: `[project] python` names nothing that can be started.
    """
    if setting:
        return _Place(_configured(root, setting, environ), SETTING)
    own = _python_in(root / _VENV)
    active = environ.get("VIRTUAL_ENV", "")
    if active and (python := _python_in(Path(active))):
        passed = own is not None and os.path.realpath(active) != os.path.realpath(root / _VENV)
        note = f"the code runs in the active environment {Path(active).name}, not in the project's {_VENV}" if passed else ""
        return _Place(python, "$VIRTUAL_ENV", note)
    if own:
        return _Place(own, _VENV)
    conda = environ.get("CONDA_PREFIX", "")
    if conda and (python := _python_in(Path(conda))):
        return _Place(python, "$CONDA_PREFIX")
    return None


def _configured(root: Path, setting: str, environ: Mapping[str, str]) -> Path:
    hint = 'give a Python or an environment\'s folder, as in python = ".venv", or leave it out'
    named = Path(setting).expanduser()
    if named.parent == Path() and not (root / named).exists():
        found = shutil.which(setting, path=environ.get("PATH"))
        if found is None:
            raise ConfigError(
                f"mlops.toml: project.python: there is no command {setting!r} and no file of that name", hint=hint
            )
        return Path(found)
    place = root / named  # an absolute path stays itself
    if place.is_dir():
        python = _python_in(place)
        if python is None:
            raise ConfigError(f"mlops.toml: project.python: the folder {setting!r} is no Python environment", hint=hint)
        return python
    if not place.is_file() or not os.access(place, os.X_OK):
        what = "cannot be executed" if place.is_file() else "is not there"
        raise ConfigError(f"mlops.toml: project.python: {setting!r} {what}", hint=hint)
    return place


def _python_in(folder: Path) -> Path | None:
    """The Python of an environment."""
    python = folder / "bin" / "python"
    return python if python.is_file() and os.access(python, os.X_OK) else None


def _stamp(path: Path) -> str:
    """A text that changes when another Python lies at this place."""
    parts = [str(path), os.path.realpath(path)]
    for file in (path, path.parent.parent / "pyvenv.cfg"):
        try:
            found = file.stat()
            parts.append(f"{found.st_size} {found.st_mtime_ns} {found.st_ino}")
        except OSError:
            parts.append("")
    return "\n".join(parts)


def _is_script(path: Path) -> bool:
    """Whether it is a script that starts some Python (pyenv's shims): which one, only starting it tells."""
    try:
        with path.open("rb") as file:
            return file.read(2) == b"#!"
    except OSError:
        return False


def _asked(place: _Place) -> tuple[str, str, str]:
    """Path, prefix and version, as that Python says.

    Raises:
        ConfigError: it does not start, or is too old.
    """
    name = (
        f"mlops.toml: project.python: {place.path.name!r}" if place.found == SETTING else f"{place.found}: {place.path.name!r}"
    )
    hint = f"mlops runs your code in Python {OLDEST[0]}.{OLDEST[1]} or newer; set {SETTING} in mlops.toml to one"
    import subprocess  # noqa: PLC0415  (5 ms, and once for each interpreter)

    command = [str(place.path), "-I", "-c", _ASK]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
        path, prefix, version = json.loads(done.stdout)
        numbers = tuple(int(part) for part in version.split(".")[:2])
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigError(f"{name} does not start: {error}", hint=hint) from error
    except (ValueError, TypeError) as error:
        said = (done.stderr or done.stdout).strip().splitlines() or [f"exit {done.returncode}"]
        raise ConfigError(f"{name} is no Python that can be used: {said[-1][:200]}", hint=hint) from error
    if numbers < OLDEST:
        raise ConfigError(f"{name} is Python {version}", hint=hint)
    # A shim's own path starts another Python tomorrow; an environment's python must be started by its own path.
    return (path if _is_script(place.path) else str(place.path)), prefix, version
