"""Find the version a reference names: `delay@3`, `delay@champion`, `@champion` or `delay` (its champion)."""

from __future__ import annotations

from mlops_local.domain.assets import ModelVersion
from mlops_local.domain.errors import UsageError
from mlops_local.store.registry import Registry

CHAMPION = "champion"
SCRIPT = "script"
"""The candidate of versions that a plain script made with log_model."""


def find(state: Registry, ref: str) -> ModelVersion:
    """Return the version.

    Args:
        state: the registry of this moment.
        ref: the reference as the user gave it.

    Raises:
        UsageError: no such model, version or alias, or several models where none is named.
    """
    names = sorted({version.model for version in state.versions.values()})
    model, _, what = ref.partition("@")
    what = what or CHAMPION
    if not model and len(names) > 1:
        raise UsageError(f"@{what}: several models here: {', '.join(names)}", hint=f"say which: {names[0]}@{what}")
    model = model or (names[0] if names else "")
    if model not in names:
        known = f"known: {', '.join(names)}" if names else "train one first: `mlops train`"
        raise UsageError(f"no model named {model!r}" if model else "there is no model version yet", hint=known)
    version = state.versions.get(state.aliases.get(f"{model}@{what}") or f"{model}@{what}")
    if version is None:
        raise UsageError(f"no version or alias {what!r} of {model}", hint=f"`mlops model ls {model}` lists them")
    return version
