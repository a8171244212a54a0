"""A reporter that keeps what it is told, for tests of train, optimize and evaluate.

Kept by the suite of the real one (tests/contracts/test_reporter.py). `state` is what the next beat answers; `lose` makes
another attempt the owner.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlaas_ray.errors import LostLease
from rlaas_ray.specs.runs import Progress, Run, RunState
from rlaas_ray.specs.seams import Reporter


class TwinReporter(Reporter):
    """Everything that was reported, in order."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.state: RunState = "running"
        self.claimed = False
        self.progress: list[Progress] = []
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.rows: list[Mapping[str, float | int | None]] = []
        self.final: dict[str, Any] | None = None
        self.versions: list[dict[str, Any]] = []
        self._lost = False

    def lose(self) -> None:
        """From now on somebody else owns the run."""
        self._lost = True

    def claim(self) -> Run:
        self._owned()
        self.claimed = True
        return self.run

    def beat(self, progress: Progress) -> RunState:
        self._owned()
        self.progress.append(progress)
        return self.state

    def event(self, kind: str, data: Mapping[str, Any]) -> None:
        self.events.append((kind, dict(data)))

    def metrics(self, rows: Sequence[Mapping[str, float | int | None]]) -> None:
        self.rows += [dict(row) for row in rows]

    def finish(
        self,
        state: RunState,
        *,
        result: Mapping[str, Any] | None = None,
        error: Mapping[str, Any] | None = None,
        checkpoint_uri: str | None = None,
    ) -> None:
        self._owned()
        self.final = {"state": state, "result": result, "error": error, "checkpoint_uri": checkpoint_uri}

    def register(self, bundle: Path, *, name: str, evaluation: Mapping[str, Any] | None) -> Mapping[str, Any]:
        self._owned()
        document = {"name": name, "number": len(self.versions) + 1, "path": str(bundle), "evaluation": evaluation}
        self.versions.append(document)
        return document

    def _owned(self) -> None:
        if self._lost:
            raise LostLease(f"run {self.run.id} belongs to another attempt", given=self.run.attempt)
