"""A search as a job: stepped, told of, saved. What an attempt of a run of kind `optimize` executes.

Called by wiring for one search, and by the host of many, which steps each `SearchJob` itself. Reports through the reporter
that it is handed; writes nothing but checkpoints and the result's points below the run's own folder.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlaas_ray.envs import catalogue
from rlaas_ray.errors import InvalidInput
from rlaas_ray.jobs import checkpoints
from rlaas_ray.optimize import front, problems, search
from rlaas_ray.optimize import state as states
from rlaas_ray.specs.arrays import F64
from rlaas_ray.specs.optimize import OptimizeSpec
from rlaas_ray.specs.runs import Progress
from rlaas_ray.specs.seams import Clock, Reporter

FOLDER, POINTS = "checkpoints", "points.npz"
POLICIES = "policy_search"  # the problem whose chosen point is a policy
TELLS_S = 0.2  # between two fronts: five a second are enough to watch, and the latest wins
GROWTH_POINTS = 60  # of the front at generations 1, 2, 4, ..., which the result keeps
ROWS_TOLD = 20  # metric rows with each front, at most
_MOVED = 1 << 40  # batches: evaluation is elsewhere already
SAVES_S, SAVES_AT_MOST_S = 30.0, 0.25  # the longest and the shortest time between two checkpoints
SAVING = 20.0  # times what a checkpoint costs lie between two: a twentieth of a search goes into them at most

DEAR_S = 1e-3  # a row that takes longer may go to Ray: a call of it takes about that
MEASURED = 3  # batches, before it is known what a row takes
WORTH_S = 20.0  # of evaluation left, or bringing Ray up costs more than it gives

# The document of another run, by its id.
Lookup = Callable[[str], Mapping[str, Any]]
# An evaluator over several processes for the problem of a spec, for as long as the block runs.
Elsewhere = Callable[[OptimizeSpec, Any], AbstractContextManager[search.Evaluate]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Given:
    """The run that a search belongs to. `directory` is the run's own; `checkpoint` what the API knows of an earlier attempt."""

    run_id: str
    attempt: int
    reporter: Reporter
    clock: Clock
    directory: Path
    checkpoint: str | None
    lookup: Lookup


class SearchJob:
    """One search and who hears of it. `tells_s` is the least time between two fronts: more where many jobs tell at once."""

    def __init__(self, searching: search.Searching, given: Given, *, tells_s: float = TELLS_S) -> None:
        self.searching, self.tells_s = searching, tells_s
        self._given = given
        self._told_s, self._saved_s = float("-inf"), given.clock.monotonic_s()
        self._saved_at, self._saving_s = searching.generation, 0.0
        self._rows: list[dict[str, float | int | None]] = []
        self._growth: list[dict[str, Any]] = []

    @property
    def done(self) -> bool:
        """Whether there is nothing left to step."""
        return self.searching.done

    def step(self) -> search.Generation:
        """One generation, evaluated here, told of, and saved where it is time."""
        made = self.searching.step()
        self.tell(made)
        return made

    def tell(self, made: search.Generation) -> None:
        """What follows a generation: its metric row, at most five times a second its front, now and then a checkpoint.

        Ends the search where the API says that it shall.
        """
        clock, reporter = self._given.clock, self._given.reporter
        if made.number >= 2 * (self._growth[-1]["generation"] if self._growth else 0):
            self._growth.append(_moment(made))
        self._rows.append(
            {
                "step": made.number,
                "time_us": clock.now_us(),
                "hypervolume": made.hypervolume,
                "front_size": made.front_size,
                "evaluations": made.evaluations,
                "feasible_share": made.feasible_share,
            }
        )
        self._save_if_due()
        now_s = clock.monotonic_s()
        if now_s - self._told_s < self.tells_s and not self.searching.done:
            return
        self._told_s = now_s
        reporter.event("front", made.event(job=self._given.run_id))
        stride = -(-len(self._rows) // ROWS_TOLD)
        reporter.metrics(self._rows[::-stride][::-1])
        self._rows = []
        if reporter.beat(progress(made)) == "stopping":
            self.searching.stop()

    def save(self) -> Path:
        """A checkpoint, now."""
        made, began_s = self.searching.generation, self._given.clock.monotonic_s()
        path = checkpoints.save(self._given.directory / FOLDER, self.searching.save(), generation=made)
        self._saved_at, self._saved_s = made, self._given.clock.monotonic_s()
        self._saving_s = self._saved_s - began_s
        return path

    def finish(self) -> dict[str, Any]:
        """The result document, with the state that the run ends in and its last checkpoint, which others may begin from."""
        path = self.save()
        found = self.searching.result()
        result = search.document(self.searching.spec, found)
        state = "stopped" if found.stopped else "succeeded"
        return {
            **result,
            "growth": self._growth,
            "checkpoint_uri": str(path),
            "points_uri": str(self._points(found) or path),
            **self._policy(found),
            "state": state,
        }

    def _policy(self, found: front.Front) -> dict[str, Any]:
        """The chosen point of a policy search as a registered version; nothing for any other problem."""
        problem, spec = self.searching.subject.problem, self.searching.spec
        if spec.problem != POLICIES:
            return {}
        name = spec.name or f"{problem.env.rpartition('/')[2]}-search".lower()
        target = self._given.directory / f"policy-{self._given.attempt}"
        contents = problem.contents(
            found.x[found.chosen], name=name, created_us=self._given.clock.now_us(), spec_digest=spec.digest()
        )
        # Found late: other searches need neither ONNX nor torch.
        digest = catalogue.load("rlaas_ray.policies.bundle:write")(target, contents)
        version = self._given.reporter.register(target, name=name, evaluation=None)
        return {"bundle": str(target), "digest": digest, "version": dict(version)}

    def _points(self, found: front.Front) -> Path | None:
        """The variables of the result's points; None where the checkpoint has them all: it lacks anchors alone."""
        if not found.anchors:
            return None
        arrays = {"archive.x": found.x, "archive.f": found.values * self.searching.subject.sign}
        data = states.pack({"variables": found.variables_digest}, arrays)
        return checkpoints.write(self._given.directory / POINTS, data)

    def _save_if_due(self) -> None:
        since_s = self._given.clock.monotonic_s() - self._saved_s
        often = self.searching.generation - self._saved_at >= self.searching.spec.checkpoint_every
        if since_s >= SAVES_S or (often and since_s >= max(SAVES_AT_MOST_S, SAVING * self._saving_s)):
            self.save()


def begin(spec: OptimizeSpec, given: Given, *, evaluate: search.Evaluate | None = None) -> SearchJob:
    """The search that the spec asks for: where an earlier attempt left it, else from its start. Raises InvalidInput."""
    subject = problems.resolve(spec)
    searching = _taken_up(subject, spec, given=given, evaluate=evaluate)
    if searching is None:
        start = warm_rows(subject, spec, lookup=given.lookup)
        searching = search.Searching(subject, spec, clock=given.clock, evaluate=evaluate, start=start)
    return SearchJob(searching, given)


def execute(spec: OptimizeSpec, given: Given, *, stop: threading.Event, elsewhere: Elsewhere) -> dict[str, Any]:
    """The whole search; gives the run's result. `elsewhere` evaluates where the spec says so, or where rows turn out dear."""
    job = begin(spec, given)
    searching, measured = job.searching, 0
    with ExitStack() as stack:
        while not job.done:
            if stop.is_set():
                searching.stop()
                break
            if wanted_elsewhere(spec, row_s=searching.row_s, measured=measured, left=rows_left(searching)):
                searching.evaluate_with(stack.enter_context(elsewhere(spec, searching.subject.problem)))
                measured = _MOVED
            job.step()
            measured += 1
    return job.finish()


def wanted_elsewhere(spec: OptimizeSpec, *, row_s: float | None, measured: int, left: float) -> bool:
    """Whether evaluation moves to Ray now: at once where the spec says so; by `auto` when the third batch has shown its price."""
    if spec.evaluate == "ray":
        return measured == 0
    dear = row_s is not None and row_s >= DEAR_S and row_s * left >= WORTH_S
    return spec.evaluate == "auto" and measured == MEASURED and dear


def rows_left(searching: search.Searching) -> float:
    """Rows that are still to be evaluated, by the budget; infinite where none is set, and by time what fits into it."""
    rules, size = searching.effort.rules, searching.effort.population_size
    budgets = [float("inf")]
    if rules.generations is not None:
        budgets.append(size * float(rules.generations - searching.generation))
    if rules.evaluations is not None:
        budgets.append(float(rules.evaluations - searching.evaluations))
    if rules.time_limit_s is not None and searching.row_s:
        budgets.append((rules.time_limit_s - searching.elapsed_s) / searching.row_s)
    return max(min(budgets), 0.0)


def _moment(made: search.Generation) -> dict[str, Any]:
    """What is kept of a generation, for a picture of how the front grew: few points, of six digits."""
    rows = made.values[front.thinned(made.values, limit=GROWTH_POINTS)]
    return {
        "generation": made.number,
        "hypervolume": made.hypervolume,
        "front": [[float(f"{value:.6g}") for value in row] for row in rows.tolist()],
    }


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


def warm_rows(subject: problems.Subject, spec: OptimizeSpec, *, lookup: Lookup) -> F64 | None:
    """(k, d) the rows that the spec's warm start means: its own, or the best spread points of an earlier run; None without one.

    Raises InvalidInput where the earlier run had other variables, or has nothing to begin from.
    """
    told = spec.warm_start
    if told is None:
        return None
    if told.rows is not None:
        widths = {len(row) for row in told.rows}
        if widths != {int(subject.problem.n_var)}:
            raise InvalidInput(
                "rows of a warm start",
                given=f"{sorted(widths)} numbers in a row",
                expected=f"{subject.problem.n_var}, one for each variable of {spec.problem}",
                pointer="/warm_start/rows",
            )
        return np.asarray(told.rows, dtype=np.float64)
    assert told.run is not None
    earlier = lookup(told.run)
    variables = states.variables_digest(subject.problem)
    path = Path(str(earlier.get("checkpoint_uri") or ""))
    if path.is_file():
        x, f = states.points(path.read_bytes(), variables=variables)
        rows: F64 = x[front.thinned(f, limit=search.started_at_most(spec))]
        return rows
    result = earlier.get("result") or {}
    if "chosen" not in result:
        raise InvalidInput(
            f"run {told.run} has nothing to begin from",
            given=earlier.get("state"),
            expected="a search that has ended, or left a checkpoint on this disk",
            cure="Wait until it has ended, or give rows.",
            pointer="/warm_start/run",
        )
    states.check({"variables": result.get("variables_digest")}, {"variables": variables})
    return np.asarray([result["chosen"]["x"]], dtype=np.float64)


def _taken_up(
    subject: problems.Subject, spec: OptimizeSpec, *, given: Given, evaluate: search.Evaluate | None
) -> search.Searching | None:
    """From the newest checkpoint that can be read; None where there is none. A damaged one is said, and the one before taken.

    A first attempt has one too where its host died and began anew.
    """
    paths = checkpoints.found(given.directory / FOLDER)
    if not paths and given.checkpoint is not None and Path(given.checkpoint).is_file():
        paths = [Path(given.checkpoint)]
    for path in reversed(paths):
        try:
            return search.Searching.restore(
                path.read_bytes(), subject=subject, spec=spec, clock=given.clock, evaluate=evaluate
            )
        except InvalidInput as error:
            given.reporter.event("warning", {"words": f"checkpoint {path.name} is not used: {error.detail}"})
    return None
