"""A place without processes: attempts that live until they are ended or stopped, for tests of control.

Kept by the suite of the real places (tests/contracts/test_places.py). Never runs anything.
"""

from __future__ import annotations

from collections.abc import Iterator

from rlaas_ray.errors import NotFound
from rlaas_ray.specs.runs import Run
from rlaas_ray.specs.seams import Place


class TwinPlace(Place):
    """`end` ends an attempt as its process would; `submitted` counts the starts."""

    def __init__(self) -> None:
        self.submitted: list[tuple[str, int]] = []
        self.keys: dict[str, str] = {}
        self.stopped: list[str] = []
        self._living: dict[str, list[str]] = {}
        self._logs: dict[str, list[str]] = {}

    def submit(self, run: Run, *, key: str) -> str:
        ref = f"{run.id}:{run.attempt}"
        if ref not in self._logs:
            self.submitted.append((run.id, run.attempt))
            self.keys[ref] = key
            self._living[ref] = self._logs[ref] = [f"attempt {run.attempt} of {run.id}"]
        return ref

    def alive(self, ref: str) -> bool:
        return ref in self._living

    def stop(self, ref: str, *, grace_s: float) -> None:
        self.stopped.append(ref)
        self.end(ref)

    def logs(self, ref: str, *, run_id: str, follow: bool) -> Iterator[str]:
        if ref not in self._logs:
            raise NotFound(f"the log of {run_id}", given=ref)
        return iter(list(self._logs[ref]))

    def end(self, ref: str) -> None:
        """The attempt's process is gone."""
        self._living.pop(ref, None)
