"""Let this process and its children read nothing but what is named: Linux's Landlock, through its three system calls.

Only reading files is restricted. What is open already stays open, and nothing can take the restriction back.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Iterable

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same numbers on every architecture
_VERSION = 1
_PATH_BENEATH = 1
_READ_FILE = 1 << 2
_REFER = 1 << 13
_NO_NEW_PRIVILEGES = 38


class _Ruleset(ctypes.Structure):
    _fields_ = (("handled_access_fs", ctypes.c_uint64),)


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def problem() -> str:
    """Why reads cannot be restricted on this machine; empty when they can."""
    if sys.platform != "linux":
        return f"it needs Linux's Landlock, and this is {sys.platform}"
    if _version() > 0:
        return ""
    if ctypes.get_errno() == errno.EOPNOTSUPP:
        return "this Linux has Landlock, but it was not enabled at boot (lsm=landlock,...)"
    return "this Linux kernel has no Landlock (5.13 is the first that has it)"


def restrict(readable: Iterable[str]) -> None:
    """From now on only these files, and files below these folders, can be read. What is not there is left out.

    Raises:
        OSError: the kernel refuses.
    """
    moves = _REFER if _version() >= 2 else 0  # any ruleset forbids moving files between folders, unless it allows it
    attributes = _Ruleset(_READ_FILE | moves)
    ruleset = _call(_CREATE, ctypes.byref(attributes), ctypes.sizeof(attributes), 0)
    try:
        if moves:
            _allow(ruleset, "/", moves)
        for path in dict.fromkeys(readable):
            _allow(ruleset, path, _READ_FILE)
        if _libc().prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "no_new_privs was refused")
        _call(_RESTRICT, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, access: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        rule = _PathBeneath(access, place)
        _call(_ADD, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(place)


def _version() -> int:
    return int(_libc().syscall(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION)))


def _call(number: int, *arguments: object) -> int:
    made = int(_libc().syscall(number, *arguments))
    if made < 0:
        raise OSError(ctypes.get_errno(), f"Landlock: {os.strerror(ctypes.get_errno())}")
    return made


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
