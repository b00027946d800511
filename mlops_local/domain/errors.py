"""Every error a user can meet, as one tree.

    MlopsError                  message, hint; exit 1
    ├─ StepFailed               a step or command of the user's failed; exit 1
    ├─ UsageError               wrong argument or reference; exit 2
    │  ├─ ProjectNotFound       no mlops.toml here or above
    │  ├─ ConfigError           mlops.toml or the pipeline's declaration is wrong
    │  ├─ DataError             a source is missing, corrupt or does not fit
    │  └─ AmbiguousReference    a short id or name means several things
    ├─ NoVerdict                no comparison could be made; exit 4
    ├─ StoreBusy                the store stayed locked past the limit; exit 5
    ├─ Unwritable               the disk is full, or what must be written may not be; exit 1
    ├─ Conflict                 somebody else decided first; exit 1
    └─ IntegrityError           what is stored is not what was written; exit 6
       └─ NewerStore            the store was written by a newer version; exit 6

A face turns an error into text, a status or a toast with one table; nothing below a face prints.
"""

from __future__ import annotations

from collections.abc import Sequence


class MlopsError(Exception):
    """Something the user can understand and mend."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", problems: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        """What happened and where, one sentence, no trailing full stop."""
        self.hint = hint
        """What to do next, or empty."""
        self.problems = tuple(problems)
        """Where it is several things: the message, and then each in a line."""


class StepFailed(MlopsError):
    """A step of the user's pipeline failed; `traceback` is the user's own, ours cut off.

    `problems` lists, where several failed or others were not run for it, the message and then each of those in a line.
    """

    def __init__(self, message: str, *, hint: str = "", traceback: str = "", problems: Sequence[str] = ()) -> None:
        super().__init__(message, hint=hint, problems=problems)
        self.traceback = traceback


class UsageError(MlopsError):
    """An argument, option or reference is wrong."""

    exit_code = 2


class ProjectNotFound(UsageError):
    """No project in this folder or above it."""


class ConfigError(UsageError):
    """mlops.toml or the pipeline module declares something that cannot be.

    `problems` holds every problem found, not the first; each is one line with its place.
    """

    def __init__(self, message: str, *, hint: str = "", problems: Sequence[str] = (), traceback: str = "") -> None:
        super().__init__(message, hint=hint, problems=problems)
        self.traceback = traceback


class DataError(UsageError):
    """A source matches no file, cannot be read, or lacks a column.

    Where its message has a value of a `column`, `hidden` is the message without it.
    """

    def __init__(self, message: str, *, hint: str = "", column: str = "", hidden: str = "") -> None:
        super().__init__(message, hint=hint)
        self.column = column
        self.hidden = hidden


class Unsettled(DataError):
    """A file changed while it was read: nothing is known of it yet."""


class AmbiguousReference(UsageError):
    """A reference names several things; `candidates` lists them, newest first."""

    def __init__(self, message: str, *, candidates: Sequence[str]) -> None:
        super().__init__(message, hint="use more characters of the id: " + ", ".join(candidates))
        self.candidates = tuple(candidates)


class NoVerdict(MlopsError):
    """Untrained, no baseline, or the comparison could not be made."""

    exit_code = 4


class StoreBusy(MlopsError):
    """The store stayed in use past --wait."""

    exit_code = 5


class IntegrityError(MlopsError):
    """A stored object, journal, ledger or database is not what was written."""

    exit_code = 6


class NewerStore(IntegrityError):
    """The store was written by a newer version of this program."""


class Unwritable(MlopsError):
    """The disk takes no more, or a file or folder that must be written may not be."""


class Conflict(MlopsError):
    """A ledger line expected another value: somebody else decided first."""
