"""Find, read and hold a project: its folder, its mlops.toml and its store.

A `Project` is a plain handle; making one reads mlops.toml and nothing else.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

from mlops_local.domain.errors import ConfigError, ProjectNotFound
from mlops_local.domain.project import ProjectConfig, parse
from mlops_local.domain.records import dataclass
from mlops_local.store import layout as layouts
from mlops_local.store.database import Store
from mlops_local.store.layout import Layout

CONFIG = "mlops.toml"


@dataclass(frozen=True)
class Project:
    """A project that was found."""

    root: Path
    config: ProjectConfig
    store: Store

    @property
    def layout(self) -> Layout:
        """Where everything under .mlops/ is."""
        return self.store.layout


def find(
    start: Path,
    *,
    wait_s: float = 30.0,
    on_wait: Callable[[str], None] = lambda holder: None,
    on_behind: Callable[[str], None] = lambda why: None,
) -> Project:
    """Open the project at `start` or in the nearest folder above.

    Args:
        start: a folder in the project.
        wait_s: how long to queue for the store, in seconds.
        on_wait: told who holds the store when waiting takes over a second.
        on_behind: told why what is shown lacks the newest, where nothing can be written.

    Raises:
        ProjectNotFound: no mlops.toml here or above.
        ConfigError: mlops.toml is not TOML or declares something unknown.
    """
    root = layouts.find_root(start)
    if root is None:
        raise ProjectNotFound(
            f"no project in {start.resolve()} or above it (no {CONFIG})",
            hint="run `mlops init` to make one here, or pass `-C DIR`",
        )
    config = read_config((root / CONFIG).read_bytes(), name=root.name)
    layout = Layout(root)
    layouts.create(layout)
    return Project(root=root, config=config, store=Store(layout, wait_s=wait_s, on_wait=on_wait, on_behind=on_behind))


def read_config(data: bytes, *, name: str) -> ProjectConfig:
    """Parse and check the bytes of an mlops.toml.

    Raises:
        ConfigError: with line and column when it is not TOML, with every problem when it is.
    """
    try:
        mapping = tomllib.loads(data.decode("utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{CONFIG} is not valid TOML: {error}", hint=f"mend {CONFIG} and run the command again") from error
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(f"{CONFIG}, line {line}: not UTF-8 text", hint=f"save {CONFIG} as UTF-8") from error
    return parse(mapping, name=name)
