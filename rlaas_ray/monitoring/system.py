"""What a run uses of its machine: CPU and memory of its processes, and its GPUs where there are any.

Read by the reporter of a run (wiring.attempt). Never raises: a machine that will not tell is a machine without numbers.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

import psutil


class System:
    """This process and its children, since the last reading. GPUs need the extra `nvidia`."""

    def __init__(self) -> None:
        self._self = psutil.Process()
        self._known: dict[int, psutil.Process] = {}
        self._gpus = _gpus()
        self.read()

    def read(self) -> dict[str, float]:
        """`system_cpu_percent` (100 a core), `system_memory_bytes`, `system_free_bytes`, and `gpu_<i>_percent|memory_bytes`."""
        cpu_percent, memory_bytes = 0.0, 0
        for process in self._processes():
            with contextlib.suppress(psutil.Error):
                cpu_percent += process.cpu_percent()
                memory_bytes += process.memory_info().rss
        found = {
            "system_cpu_percent": cpu_percent,
            "system_memory_bytes": float(memory_bytes),
            "system_free_bytes": float(psutil.virtual_memory().available),
        }
        for index, handle in enumerate(self._gpus.handles):
            with contextlib.suppress(Exception):  # the driver's own errors share no base with anything
                found[f"gpu_{index}_percent"] = float(self._gpus.library.nvmlDeviceGetUtilizationRates(handle).gpu)
                found[f"gpu_{index}_memory_bytes"] = float(self._gpus.library.nvmlDeviceGetMemoryInfo(handle).used)
        return found

    def _processes(self) -> Iterator[psutil.Process]:
        """A process is kept between readings: psutil measures CPU since the last time it was asked of the same object."""
        with contextlib.suppress(psutil.Error):
            living = {child.pid: child for child in [self._self, *self._self.children(recursive=True)]}
            self._known = {pid: self._known.get(pid, process) for pid, process in living.items()}
        yield from self._known.values()


class _Gpus:
    def __init__(self, library: Any, handles: list[Any]) -> None:
        self.library = library
        self.handles = handles


def _gpus() -> _Gpus:
    try:
        library = importlib.import_module("pynvml")
        library.nvmlInit()
        return _Gpus(library, [library.nvmlDeviceGetHandleByIndex(i) for i in range(library.nvmlDeviceGetCount())])
    except Exception:  # noqa: BLE001 - no library, no driver, no card: no numbers
        return _Gpus(None, [])
