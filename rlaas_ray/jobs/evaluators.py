"""Evaluation on Ray: a batch of rows over actors that hold the problem, stragglers issued again and then dropped.

Handed to a search by searching.py where rows are dear; batches.py decides who is late. A problem is made in each actor from
its name and its JSON settings, never from a closure. The Ray that it runs on is the caller's.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray

from rlaas_ray.errors import WorkFailed
from rlaas_ray.jobs.batches import Batch, Chunk, Times
from rlaas_ray.optimize import evaluation, problems
from rlaas_ray.specs.arrays import F64
from rlaas_ray.specs.optimize import OptimizeSpec
from rlaas_ray.specs.seams import Clock

_LOOK_S = 0.05
_BEGIN_S = 120.0  # an actor imports the problem's module
_SAID_AT_MOST = 20
_LOG = logging.getLogger(__name__)
Values = tuple[F64, F64, F64]


class Worker:
    """One actor: the problem, and rows of it on request."""

    def __init__(self, spec: Mapping[str, Any], paths: Sequence[str]) -> None:
        sys.path.extend(path for path in paths if path not in sys.path)
        self._problem = problems.resolve(OptimizeSpec(**spec)).problem
        torch = sys.modules.get("torch")
        if torch is not None:
            torch.set_num_threads(1)

    def ready(self) -> bool:
        """Whether it is there: it answers."""
        return True

    def evaluate(self, x: F64, *, start: int, stop: int) -> tuple[Values, list[str]]:
        """The values of rows [start, stop), and what the rows said that raised; those are +inf."""
        return isolated(self._problem, np.array(x[start:stop]))


def isolated(problem: Any, x: F64) -> tuple[Values, list[str]]:
    """The values of all rows at once; where that raises, row by row, so that one bad row fails alone. Also what they raised."""
    try:
        return evaluation.evaluate(problem, x), []
    except Exception as error:  # noqa: BLE001 - the user's code
        if len(x) == 1:
            return failed(problem, rows=1), [f"{type(error).__name__}: {error}"]
    parts = [isolated(problem, row[None]) for row in x]
    values = tuple(np.concatenate(column) for column in zip(*(part[0] for part in parts), strict=True))
    return (values[0], values[1], values[2]), [word for part in parts for word in part[1]]


def failed(problem: Any, *, rows: int) -> Values:
    """What rows have that failed: infinite objectives."""
    return (
        np.full((rows, int(problem.n_obj)), np.inf),
        np.zeros((rows, int(problem.n_ieq_constr))),
        np.zeros((rows, int(problem.n_eq_constr))),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Running:
    actor: Any
    since_s: float
    batch: Batch | None  # None: it only says that it is ready
    chunk: Chunk | None


class RayEvaluator:
    """Rows -> values over `workers` actors of `cpus` each, on the Ray that this process is connected to.

    Workers that hang are ended and replaced. `issued_again` and `dropped` count chunks. Each error of rows is logged once.
    """

    def __init__(self, spec: OptimizeSpec, *, problem: Any, workers: int, cpus: float, clock: Clock) -> None:
        self._problem, self._clock, self._workers = problem, clock, workers
        self._times = Times(timeout_s=spec.row_timeout_s)
        # Its own problem, not the search: an actor needs no budget and no start.
        told = {"problem": spec.problem, "problem_config": spec.problem_config, "mode": spec.mode}
        self._make = ray.remote(num_cpus=cpus, max_restarts=0)(Worker).remote
        self._arguments = (told, list(sys.path))
        self._idle: list[Any] = []
        self._running: dict[Any, _Running] = {}
        self.issued_again = self.dropped = 0
        self._said: set[str] = set()
        for _ in range(workers):
            self._hire()

    def __call__(self, x: F64) -> Values:
        """Values f (n, m), g (n, p), h (n, q) of rows x (n, d); rows that raised, hung or were lost are +inf in f."""
        batch = Batch(len(x), workers=self._workers, times=self._times)
        found = failed(self._problem, rows=len(x))
        shared = ray.put(x)
        while not batch.over:
            self._issue(batch, shared)
            self._collect(batch, found)
            self._chase(batch)
        return found

    def close(self) -> None:
        """End the actors."""
        for actor in [*self._idle, *(one.actor for one in self._running.values())]:
            ray.kill(actor)
        self._idle, self._running = [], {}

    def _issue(self, batch: Batch, shared: Any) -> None:
        while self._idle and batch.waits:
            now_s = self._clock.monotonic_s()
            chunk = batch.next(now_s=now_s)
            if chunk is None:
                return
            actor = self._idle.pop()
            asked = actor.evaluate.remote(shared, start=chunk.start, stop=chunk.stop)
            self._running[asked] = _Running(actor=actor, since_s=now_s, batch=batch, chunk=chunk)

    def _collect(self, batch: Batch, found: Values) -> None:
        ready, _ = ray.wait(list(self._running), num_returns=1, timeout=_LOOK_S)
        for asked in ready:
            one = self._running.pop(asked)
            try:
                told = ray.get(asked)
            except ray.exceptions.RayActorError as error:
                self._gone(one, error)
                continue
            self._idle.append(one.actor)
            # Of a chunk of an earlier batch nobody waits any more.
            if one.batch is not batch or one.chunk is None:
                continue
            if batch.back(one.chunk.number, seconds=self._clock.monotonic_s() - one.since_s):
                values, words = told
                self._say(words)
                for into, part in zip(found, values, strict=True):
                    into[one.chunk.start : one.chunk.stop] = part

    def _gone(self, one: _Running, error: Exception) -> None:
        if one.chunk is None or one.batch is None:
            raise WorkFailed(
                "a worker that evaluates rows did not come up",
                given=str(error)[:500],
                cure="Make the problem once by hand: its module must be importable where the workers run.",
            )
        one.batch.fell(one.chunk.number)
        self._hire()

    def _chase(self, batch: Batch) -> None:
        now_s = self._clock.monotonic_s()
        if any(one.chunk is None and now_s - one.since_s > _BEGIN_S for one in self._running.values()):
            raise WorkFailed(
                f"a worker that evaluates rows is not there after {_BEGIN_S:.0f} s",
                given=f"{self._workers} workers",
                expected="as many as the cluster has CPUs for",
                cure="Ask for fewer workers.",
            )
        late = batch.late(now_s=now_s)
        self.issued_again += len(late.again)
        self.dropped += len(late.lost)
        hung = [
            asked
            for asked, one in self._running.items()
            if one.chunk is not None and one.batch is not None and self._hangs(one, batch, now_s=now_s)
        ]
        if late.again and not self._idle and not hung:
            # Nobody is free: who is late makes room.
            mine = (a for a, one in self._running.items() if one.chunk and one.chunk.number in late.again)
            hung = [next(mine)]
        for asked in hung:
            ray.kill(self._running.pop(asked).actor)
            self._hire()

    def _hangs(self, one: _Running, batch: Batch, *, now_s: float) -> bool:
        """Whether it works on what nobody waits for any more, and has had its time twice over."""
        assert one.chunk is not None
        stale = one.batch is not batch or batch.settled(one.chunk.number)
        limit_s = self._times.limit_s(one.chunk.rows)
        return stale and limit_s is not None and now_s - one.since_s > 2 * limit_s

    def _say(self, words: Sequence[str]) -> None:
        for word in words:
            if word not in self._said and len(self._said) < _SAID_AT_MOST:
                self._said.add(word)
                _LOG.warning("a row failed: %s", word)

    def _hire(self) -> None:
        actor: Any = self._make(*self._arguments)
        now_s = self._clock.monotonic_s()
        self._running[actor.ready.remote()] = _Running(actor=actor, since_s=now_s, batch=None, chunk=None)
