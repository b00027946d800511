"""Zstandard as the standard library has it from Python 3.14 on, and the same library for the versions before.

Imported where bytes are packed or unpacked, never with a module that only names files.
"""

from __future__ import annotations

import sys

if sys.version_info >= (3, 14):
    from compression.zstd import (
        CompressionParameter,
        Strategy,
        ZstdCompressor,
        ZstdDecompressor,
        ZstdError,
        ZstdFile,
        decompress,
        get_frame_info,
    )
else:
    from backports.zstd import (
        CompressionParameter,
        Strategy,
        ZstdCompressor,
        ZstdDecompressor,
        ZstdError,
        ZstdFile,
        decompress,
        get_frame_info,
    )

__all__ = [
    "CompressionParameter",
    "Strategy",
    "ZstdCompressor",
    "ZstdDecompressor",
    "ZstdError",
    "ZstdFile",
    "decompress",
    "get_frame_info",
]
