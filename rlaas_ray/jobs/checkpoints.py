"""Checkpoints of a search: one file each, whole or not there at all; the newest two are kept.

Written and read by searching.py. What is in the bytes is `rlaas_ray.optimize`'s affair.
"""

from __future__ import annotations

import os
from pathlib import Path

KEPT = 2
_PREFIX, _SUFFIX = "generation-", ".npz"


def save(directory: Path, data: bytes, *, generation: int) -> Path:
    """Writes `directory/generation-N.npz` by fsync and rename, then removes all but the newest two."""
    final = write(directory / f"{_PREFIX}{generation:09d}{_SUFFIX}", data)
    for old in found(directory)[:-KEPT]:
        old.unlink(missing_ok=True)
    return final


def write(final: Path, data: bytes) -> Path:
    """The file, whole, by fsync and rename."""
    directory = final.parent
    directory.mkdir(parents=True, exist_ok=True)
    partial = directory / f".{final.name}.{os.getpid()}"
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(final)
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return final


def found(directory: Path) -> list[Path]:
    """Checkpoints in `directory`, oldest first."""
    return sorted(directory.glob(f"{_PREFIX}*{_SUFFIX}"))
