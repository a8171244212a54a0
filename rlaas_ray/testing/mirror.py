"""A mirror that keeps what it is told, or fails as often as it is told to; for tests of control.

Kept by the suite of the real one (tests/contracts/test_mirror.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlaas_ray.errors import Unavailable
from rlaas_ray.specs.arrays import F64
from rlaas_ray.specs.runs import Run
from rlaas_ray.specs.seams import Mirror


class MemoryMirror(Mirror):
    """`failures`: how many of the next calls raise, as a tracking server that is away."""

    def __init__(self) -> None:
        self.runs: dict[str, tuple[Run, Mapping[str, F64]]] = {}
        self.versions: dict[tuple[str, str], dict[str, Any]] = {}
        self.failures = 0

    def run(self, run: Run, *, metrics: Mapping[str, F64]) -> None:
        self._fail()
        self.runs[run.id] = (run, metrics)

    def version(self, document: Mapping[str, Any]) -> None:
        self._fail()
        self.versions[document["name"], document["digest"]] = dict(document)

    def _fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise Unavailable("the tracking server is away")
