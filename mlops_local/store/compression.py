"""Zstandard: the standard library's from Python 3.14 on, and the same one for the versions before.

Imported where bytes are packed or unpacked, never with a module that only names files.
"""

from __future__ import annotations

import sys

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["zstd"]
