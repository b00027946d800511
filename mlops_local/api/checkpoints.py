"""How a long step can be interrupted: `epochs`, and what it is made of, `checkpoint`, `resume` and `should_stop`.

In a step the states go to the store under the step's fingerprint, with the random generators and the points logged so far, so
that `mlops train --resume` gives what an uninterrupted run gives. Anywhere else (a test, a notebook) `checkpoint` keeps nothing
and `resume` finds nothing: the function just
"""

from __future__ import annotations

import copy
import json
import os
import pickle
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mlops_local.api.process import project_layout
from mlops_local.api.run import current, flush
from mlops_local.domain.errors import UsageError
from mlops_local.store import checkpoints
from mlops_local.store.layout import Layout, hmac_key

PLACE_VARIABLE = "MLOPS_CHECKPOINTS"
"""Set in a step: where it keeps its states."""
RESUME_VARIABLE = "MLOPS_RESUME"
"""Set beside it when the step may go on from one."""

_STATE = "state"
_RANDOM = "random"
_FILES = "files"


class Checkpoint(NamedTuple):
    """A state that was kept."""

    state: Any
    """What `checkpoint` was given; a file or folder comes back as the path of one."""
    epoch: int


class _Told:
    """What happened in this process: read when the step is over."""

    stopped = ""
    """How far the step was when it was asked to stop; empty when it was not."""
    epoch: int | None = None
    """The last one that was kept or gone on from."""
    replayed = False


def epochs(count: int, /, *parts: Any, every: int = 1) -> Iterator[int]:
    """Go through the epochs 0 … count - 1 of a training that can be interrupted.

    After an epoch the parts' states are kept; `mlops train --resume` puts them back and goes on with the epoch after.
    `mlops stop --keep` ends the loop after the epoch that

    Args:
        count: how many epochs.
        parts: all that changes from epoch to epoch: modules, optimizers, schedulers (anything with `state_dict` and
            `load_state_dict`), torch and numpy generators, and dicts of your own.
        every: keep the states after each so many epochs.

    Raises:
        UsageError: a part whose state cannot be taken, or a kept state of other parts.
    """
    ways = [_way(part) for part in parts]
    kept = resume()
    first = 0
    if kept is not None:
        if not isinstance(kept.state, list) or len(kept.state) != len(ways):
            raise UsageError(
                f"epochs: the checkpoint of epoch {kept.epoch} was not kept by this loop", hint="train again without --resume"
            )
        for (_, put), state in zip(ways, kept.state, strict=True):
            put(state)
        _restore(_read_random())
        first = kept.epoch + 1
    for epoch in range(first, count):
        yield epoch
        stop = epoch + 1 < count and should_stop()
        if stop or (epoch + 1) % every == 0:
            checkpoint([take() for take, _ in ways], epoch)
        if stop:
            _Told.stopped = f"after {epoch + 1} of {count} epochs"
            return


def checkpoint(state: Any, epoch: int) -> None:
    """Keep a state of the running step, so that it can go on from here. The newest two are kept. Outside a step: nothing.

    Python's, numpy's and torch's random generators are kept with it.

    Args:
        state: whatever the step needs to go on: state_dicts, plain values, or the path of a file or folder that a framework
            wrote (it is copied).
        epoch: how far it is, from 0.

    Raises:
        MlopsError: it cannot be written.
    """
    if isinstance(epoch, bool) or not isinstance(epoch, int) or epoch < 0:
        raise UsageError(f"checkpoint: an epoch is a whole number from 0 on, got {epoch!r}")
    attempt = _attempt()
    if attempt is None:
        return
    flush()  # the points before it belong to it
    torch = sys.modules.get("torch")
    is_path = isinstance(state, Path)

    def write(folder: Path) -> None:
        with (folder / _RANDOM).open("wb") as file:
            pickle.dump(_generators(), file)
        if is_path:
            (folder / _FILES).mkdir()
            (shutil.copytree if state.is_dir() else shutil.copy2)(state, folder / _FILES / state.name)
            return
        with (folder / _STATE).open("wb") as file:
            torch.save(state, file) if torch is not None else pickle.dump(state, file, protocol=5)

    attempt.save(epoch, "files" if is_path else "torch" if torch is not None else "pickle", write)
    _Told.epoch = epoch


def resume() -> Checkpoint | None:
    """Give the state to go on from, if the step was interrupted and `--resume` was asked for; else None.

    The random generators are put back to where they were, and the points that had been logged are logged in this run too.
    Called again, it gives the same state and puts the generators back again.
    """
    kept = _kept()
    if kept is None:
        return None
    state = _read(kept)
    if not _Told.replayed:
        _Told.replayed = True
        _Told.epoch = kept.epoch
        _replay(kept)
    _restore(_read_random())
    return Checkpoint(state, kept.epoch)


def should_stop() -> bool:
    """Say whether `mlops stop --keep` asked this run to end early with what it has. A step that ends early is not cached."""
    run = current()
    if run is None:
        return False
    try:
        asked: bool = run.layout.stop_request(run.id).read_text() == "keep"
    except OSError:
        return False
    if asked and not _Told.stopped:
        _Told.stopped = "early" if _Told.epoch is None else f"early, after epoch {_Told.epoch}"
    return asked


def stopped() -> str:
    """Say how far the step was when it ended early; empty when it went to its end."""
    return _Told.stopped


# -- where


def _place() -> tuple[Path, Layout] | None:
    folder = os.environ.get(PLACE_VARIABLE, "")
    return (Path(folder), project_layout()) if folder else None


def _attempt() -> checkpoints.Attempt | None:
    """This step's own states, begun with its first point or state."""
    run = current()
    return run.attempt if run is not None else None


def _kept() -> checkpoints.Kept | None:
    """The state to go on from, looked for once: this attempt's own states come later."""
    if "kept" not in _found:
        place = _place() if os.environ.get(RESUME_VARIABLE) else None
        _found["kept"] = checkpoints.furthest(place[0], hmac_key(place[1])) if place is not None else None
    return _found["kept"]


_found: dict[str, checkpoints.Kept | None] = {}


# -- what


def _way(part: Any) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    """How to take a part's state, and how to put it back."""
    if hasattr(part, "state_dict") and hasattr(part, "load_state_dict"):
        return part.state_dict, part.load_state_dict
    if hasattr(part, "get_state") and hasattr(part, "set_state"):  # torch.Generator
        return part.get_state, part.set_state
    if hasattr(part, "bit_generator"):  # numpy.random.Generator
        bits = part.bit_generator
        return lambda: bits.state, lambda state: setattr(bits, "state", state)
    if isinstance(part, dict):

        def put(state: dict[Any, Any]) -> None:
            part.clear()
            part.update(state)

        return lambda: copy.copy(part), put
    raise UsageError(
        f"epochs: the state of a {type(part).__name__} cannot be taken",
        hint="pass what has state_dict and load_state_dict, a random generator or a dict; or use checkpoint() and resume()",
    )


def _read(kept: checkpoints.Kept) -> Any:
    form = checkpoints.form(kept)
    if form == "files":
        return next((kept.folder / _FILES).iterdir())
    if form == "torch":
        import torch  # 1 s, and the step is about to use it

        return torch.load(kept.folder / _STATE, map_location="cpu", weights_only=False)
    with (kept.folder / _STATE).open("rb") as file:
        return pickle.load(file)  # proven to be this store's own


def _read_random() -> dict[str, Any]:
    kept = _kept()
    if kept is None:
        return {}
    with (kept.folder / _RANDOM).open("rb") as file:
        generators: dict[str, Any] = pickle.load(file)  # proven, as above
    return generators


def _generators() -> dict[str, Any]:
    """The state of every generator that is loaded."""
    found: dict[str, Any] = {"python": random.getstate()}
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if numpy is not None:
        found["numpy"] = numpy.random.get_state()
    if torch is not None:
        found["torch"] = torch.get_rng_state().numpy()
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            found["cuda"] = [state.numpy() for state in torch.cuda.get_rng_state_all()]
    return found


def _restore(found: dict[str, Any]) -> None:
    if "python" in found:
        random.setstate(found["python"])
    if "numpy" in found:
        import numpy

        numpy.random.set_state(found["numpy"])
    if "torch" in found:
        import torch

        torch.set_rng_state(torch.from_numpy(found["torch"]))
        if "cuda" in found and torch.cuda.is_available():
            torch.cuda.set_rng_state_all([torch.from_numpy(state) for state in found["cuda"]])


def _replay(kept: checkpoints.Kept) -> None:
    """Log again what had been logged up to the state, so that the run's curves are whole."""
    run = current()
    if run is None:
        return
    for line in kept.lines.splitlines():
        point = json.loads(line)
        if point.get("k") == "m":
            run.put({point["key"]: float(point["x"])}, point["s"])
