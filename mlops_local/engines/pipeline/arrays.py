"""Hash what an array holds. Needs numpy and nothing else: a project without polars has arrays too."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np


def array_hash(array: np.ndarray[Any, Any]) -> str:
    """The hash of an array's type, shape and values."""
    hasher = hashlib.blake2b(f"{array.dtype.str}\0{array.shape}\0".encode(), digest_size=32, person=b"mlops-array")
    hasher.update(buffer(array))
    return hasher.hexdigest()


def buffer(values: np.ndarray[Any, Any]) -> Any:
    """The values' bytes, without a copy where the array is contiguous already."""
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data if values.size else b""
