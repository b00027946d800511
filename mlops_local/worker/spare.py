"""A child that waits for what it is to do: a step need not wait for the fork of a large process, that is done before.

It has cut itself off from the server, waits at a pipe for what to do, does that one thing and is gone. Nothing of a project is
loaded while it waits; what changed since the fork reaches it with its work.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Sequence
from typing import BinaryIO, NamedTuple, cast

from mlops_local.worker import child
from mlops_local.worker.child import Answer


class Spare(NamedTuple):
    """The server's side of it."""

    pid: int
    work: int
    """Descriptor to write to what it shall do."""
    output: int
    life: int
    answer: BinaryIO

    def give(self, lines: Sequence[bytes]) -> bool:
        """Let it work on these lines; False when it is dead."""
        data = memoryview(b"\n".join(lines))
        try:
            while data:
                data = data[os.write(self.work, data) :]
        except BrokenPipeError:
            return False
        os.close(self.work)  # the end of them
        return True

    def dismiss(self) -> None:
        """Let go of it: it ends by itself, and is still to be waited for."""
        for descriptor in (self.work, self.output, self.life):
            os.close(descriptor)
        self.answer.close()


def hatch(body: Callable[[Callable[[], list[bytes]]], Answer], alone: Callable[[], None]) -> Spare:
    """Fork a child that waits.

    Args:
        body: what it does; it is handed what waits for the lines.
        alone: called in it first: lets go of what belongs to the server.

    Raises:
        OSError: no more processes or descriptors.
    """
    with contextlib.ExitStack() as made:
        work_end, work = _pipe(made)
        output, output_end = _pipe(made)
        life_end, life = _pipe(made)
        answer = made.enter_context(_file())
        pid = os.fork()
        if pid == 0:
            alone()
            for descriptor in (work, output, life):
                os.close(descriptor)
            child.run(lambda: body(lambda: _lines(work_end)), answer, output=output_end, life=life_end)
        made.pop_all()
    for descriptor in (work_end, output_end, life_end):
        os.close(descriptor)
    with contextlib.suppress(OSError):  # also done by the child: whoever comes first
        os.setpgid(pid, pid)
    return Spare(pid, work, output, life, answer)


def _lines(work: int) -> list[bytes]:
    """In the child: wait for what there is to do."""
    with open(work, "rb", buffering=0) as pipe:
        data = pipe.read()
    if not data:  # dismissed
        os._exit(0)
    return data.split(b"\n")


def _file() -> BinaryIO:
    """A file without a name, in memory where the system has that."""
    with contextlib.suppress(AttributeError, OSError):
        return os.fdopen(os.memfd_create("mlops-answer"), "w+b")
    return cast(BinaryIO, tempfile.TemporaryFile())


def _pipe(made: contextlib.ExitStack) -> tuple[int, int]:
    ends = os.pipe()
    for end in ends:
        made.callback(os.close, end)
    return ends
