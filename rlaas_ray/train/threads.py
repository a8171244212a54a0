"""One BLAS thread, set while running: OMP_NUM_THREADS helps only a process that had it before NumPy was loaded.

Called by runner.py and by every env runner. Matrices of 256 x 64 gain nothing from threads, and BLAS threads that spin on cores
shared with others cost a factor of twenty here. Touches only OpenBLAS libraries that are already loaded, on Linux.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from pathlib import Path

import torch

_MAPS = Path("/proc/self/maps")
_PREFIXES, _SUFFIXES = ("scipy_openblas_", "openblas_"), ("64_", "")


def use_one() -> None:
    """For the rest of this process."""
    torch.set_num_threads(1)
    for library in _libraries():
        _set(library, 1)


@contextlib.contextmanager
def one() -> Iterator[None]:
    """For the block; afterwards as it was."""
    torch_before = torch.get_num_threads()
    before = [(library, _get(library)) for library in _libraries()]
    use_one()
    try:
        yield
    finally:
        torch.set_num_threads(torch_before)
        for library, threads in before:
            _set(library, threads)


def counts() -> list[int]:
    """Threads of each OpenBLAS that is loaded."""
    return [_get(library) for library in _libraries()]


def _libraries() -> list[ctypes.CDLL]:
    if not _MAPS.exists():
        return []
    paths = {line.split()[-1] for line in _MAPS.read_text().splitlines() if "openblas" in line and ".so" in line}
    return [ctypes.CDLL(path) for path in sorted(paths)]


def _get(library: ctypes.CDLL) -> int:
    for function in _functions(library, name="get_num_threads"):
        return int(function())
    return 1


def _set(library: ctypes.CDLL, threads: int) -> None:
    for function in _functions(library, name="set_num_threads"):
        function(threads)


def _functions(library: ctypes.CDLL, *, name: str) -> Iterator[ctypes._NamedFuncPointer]:
    for prefix in _PREFIXES:
        for suffix in _SUFFIXES:
            found = getattr(library, f"{prefix}{name}{suffix}", None)
            if found is not None:
                yield found
                return
