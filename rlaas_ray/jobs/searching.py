"""A search as a job: stepped, told of, saved. What an attempt of a run of kind `optimize` executes.

Called by wiring for one search, and by the host of many, which steps each `SearchJob` itself. Reports through the reporter that it is
handed; writes nothing but checkpoints below the run's own folder.
"""

from __future__ import annotations

import threading
from typing import Any

from rlaas_ray.optimize import problems, search
from rlaas_ray.specs.optimize import OptimizeSpec
from rlaas_ray.specs.runs import Progress
from rlaas_ray.specs.seams import Clock, Reporter

TELLS_S = 0.2  # between two fronts: five a second are enough to watch, and the latest wins
ROWS_TOLD = 20  # metric rows with each front, at most


class SearchJob:
    """One search and who hears of it. `tells_s` is the least time between two fronts: more where many jobs tell at once."""

    def __init__(
        self, searching: search.Searching, *, run_id: str, reporter: Reporter, clock: Clock, tells_s: float = TELLS_S
    ) -> None:
        self.searching = searching
        self._run_id, self._reporter, self._clock, self._tells_s = run_id, reporter, clock, tells_s
        self._told_s = float("-inf")
        self._rows: list[dict[str, float | int | None]] = []

    @property
    def done(self) -> bool:
        """Whether there is nothing left to step."""
        return self.searching.done

    def step(self) -> search.Generation:
        """One generation, evaluated here, and told of."""
        made = self.searching.step()
        self.tell(made)
        return made

    def tell(self, made: search.Generation) -> None:
        """What follows a generation: its metric row, and at most five times a second its front. Ends the search if asked to."""
        self._rows.append(
            {
                "step": made.number,
                "time_us": self._clock.now_us(),
                "hypervolume": made.hypervolume,
                "front_size": made.front_size,
                "evaluations": made.evaluations,
                "feasible_share": made.feasible_share,
            }
        )
        now_s = self._clock.monotonic_s()
        if now_s - self._told_s < self._tells_s and not self.searching.done:
            return
        self._told_s = now_s
        self._reporter.event("front", made.event(job=self._run_id))
        stride = -(-len(self._rows) // ROWS_TOLD)
        self._reporter.metrics(self._rows[::-stride][::-1])
        self._rows = []
        if self._reporter.beat(progress(made)) == "stopping":
            self.searching.stop()

    def finish(self) -> dict[str, Any]:
        """The result document, with the state that the run ends in."""
        found = self.searching.result()
        result = search.document(self.searching.spec, found)
        return {**result, "state": "stopped" if found.stopped else "succeeded"}


def progress(made: search.Generation) -> Progress:
    """How far a search is, for people."""
    measured = "" if made.hypervolume is None else f", hypervolume {made.hypervolume:.4f}"
    return Progress(
        fraction=made.fraction,
        steps=made.number,
        steps_total=made.of,
        steps_per_s=made.number / made.elapsed_s if made.elapsed_s > 0 else None,
        eta_s=made.eta_s,
        message=f"{made.front_size} points{measured}",
    )


def execute(
    spec: OptimizeSpec, *, run_id: str, reporter: Reporter, clock: Clock, stop: threading.Event
) -> dict[str, Any]:
    """The whole search; gives the run's result."""
    searching = search.Searching(problems.resolve(spec), spec, clock=clock)
    job = SearchJob(searching, run_id=run_id, reporter=reporter, clock=clock)
    while not job.done:
        if stop.is_set():
            searching.stop()
            break
        job.step()
    return job.finish()
