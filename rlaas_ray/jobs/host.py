"""The process that runs many searches on one core: takes what lies in its inbox, steps each as the policy says, saves, reports.

Run by `rlaas_ray.cli.host`, started by `hosting.py`. The policy is `scheduler.py`'s, a search is `searching.py`'s, reporting is
the desk's. A search that fails fails alone; one whose generations are long goes on in a process of its own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from rlaas_ray.errors import LostLease, RlaasError, WorkFailed, told
from rlaas_ray.jobs import scheduler, searching
from rlaas_ray.jobs.inbox import Inbox, Mark, Order
from rlaas_ray.jobs.scheduler import Job, Rules
from rlaas_ray.jobs.searching import SearchJob
from rlaas_ray.optimize import problems, stopping
from rlaas_ray.optimize.search import Searching
from rlaas_ray.specs import document
from rlaas_ray.specs.optimize import OptimizeSpec
from rlaas_ray.specs.runs import Run
from rlaas_ray.specs.seams import Clock

_LOG = logging.getLogger(__name__)
_LOOKS_S, _IDLE_S = 0.1, 60.0
_STUCK_S = 10.0  # a generation that takes longer takes the core from all others: its search goes on elsewhere
_FRONTS_PER_S = 25.0  # of all searches together
_MOST_DEATHS = 3
_UNKNOWN = 1_000_000  # generations of a search that only another rule ends


class Line(Protocol):
    """How an attempt is claimed and told of (the desk's); itself a Reporter."""

    run: Run | None
    refused: RlaasError | None
    over: bool

    def leave(self) -> None: ...


class Desk(Protocol):
    """What tells the API of all of them, in threads of its own."""

    def open(self, *, run_id: str, attempt: int, directory: Path, key: str, place_ref: str) -> Line: ...

    def start(self) -> None: ...

    def close(self) -> None: ...


@dataclasses.dataclass(slots=True, kw_only=True, eq=False)
class _Held:
    """One attempt in hand: queued (no line), claimed, stepped (search), ended (`ending`), or on its way to another process."""

    order: Order
    job: Job
    line: Any = None  # a Line that is a Reporter; Python has no name for both
    search: SearchJob | None = None
    batches: int = 0
    ending: bool = False
    moves: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Seams:
    """What a host acts with.

    `open` gives the line of an order, `lookup` another run's document; `move` hands an order to a host of its own; `waited_s`
    says how long this thread has waited for a core so far, which is no search's doing; `elsewhere` evaluates on Ray what turned
    out dear, in a host of its own.
    """

    open: Callable[[Order], Any]
    lookup: Callable[[Order, str], Mapping[str, Any]]
    move: Callable[[Order], None]
    runs: Path
    clock: Clock
    waited_s: Callable[[], float]
    elsewhere: searching.Elsewhere
    provenance: Mapping[str, Any]


class Host:
    """`alone`: this process is for one search that is too slow to share."""

    def __init__(self, inbox: Inbox, seams: Seams, *, rules: Rules, alone: bool = False) -> None:
        self._inbox, self._seams = inbox, seams
        self._rules = dataclasses.replace(rules, alone_ms=float("inf")) if alone else rules
        self._alone = alone
        self._held: dict[str, _Held] = {}
        self._looked_s = float("-inf")
        self._began_s = seams.clock.now_us() / 1e6
        self._open = contextlib.ExitStack()
        self._mark = Mark(inbox)
        self._stepping: tuple[str, float] | None = None
        self._blame(self._mark.before)

    @property
    def empty(self) -> bool:
        """Whether there is nothing in hand."""
        return not self._held

    def serve(self, stop: threading.Event) -> None:
        """Until told to stop, or idle for a minute (a host for one search: until that has ended)."""
        clock = self._seams.clock
        busy_s = clock.monotonic_s()
        while not stop.is_set():
            worked = self.round(stop)
            if self._held:
                busy_s = clock.monotonic_s()
            elif self._alone or clock.monotonic_s() - busy_s > _IDLE_S:
                return
            if not worked:
                clock.sleep(0.02)

    def round(self, stop: threading.Event | None = None) -> bool:
        """Look for news, then give every search its turn; whether one was stepped."""
        self._look()
        self._begin()
        active = {name: held for name, held in self._held.items() if held.search is not None and not held.ending}
        now_s = self._seams.clock.monotonic_s()
        for job in scheduler.deal([held.job for held in active.values()], rules=self._rules, now_s=now_s):
            active[job.id].job = job
        for held in active.values():
            if stop is None or not stop.is_set():
                self._turn(held, among=len(active))
        return bool(active)

    def close(self) -> None:
        """A checkpoint of everything: the process ends, its work does not."""
        for held in self._held.values():
            if held.search is not None and not held.ending:
                with contextlib.suppress(RlaasError, OSError):
                    held.search.save()
        self._open.close()

    def stuck(self) -> str | None:
        """The search that has held the core for too long; asked by another thread."""
        stepping = self._stepping
        if stepping is None or self._alone or self._seams.clock.monotonic_s() - stepping[1] < _STUCK_S:
            return None
        return stepping[0]

    def put_out(self, name: str) -> None:
        """Hand the search over to a process of its own; this one has to end then. Called while the search has the core."""
        order = self._inbox.get(name)
        if order is not None:
            self._say(order, f"a generation took more than {_STUCK_S:.0f} s: it goes on in a process of its own")
            self._seams.move(order)
            self._inbox.remove(name)
            self._mark.set("")

    def _blame(self, name: str) -> None:
        """Count a death against the search that was being stepped."""
        order = self._inbox.get(name) if name else None
        if order is not None:
            self._inbox.put(dataclasses.replace(order, died=order.died + 1))

    def _look(self) -> None:
        now_s = self._seams.clock.monotonic_s()
        if now_s - self._looked_s < _LOOKS_S:
            return
        self._looked_s = now_s
        lying = self._inbox.names()
        for name in sorted(lying - self._held.keys()):
            order = self._inbox.get(name)
            if order is not None and self._outdated(order):
                self._say(order, "its module has changed since this host loaded it: it goes to a process of its own")
                self._seams.move(order)
                self._inbox.remove(name)
            elif order is not None:
                self._held[name] = _Held(order=order, job=self._job(order, now_s=now_s))
        for name in self._inbox.stops() & self._held.keys():
            self._stop(self._held[name])
        for name, held in list(self._held.items()):
            if name not in lying:
                del self._held[name]  # somebody has ended it
            elif held.line is not None and held.line.over:
                self._let_go(name, held)

    def _begin(self) -> None:
        """Claim what may begin; begin what was claimed."""
        queue = [held.job for held in self._held.values() if held.line is None]
        active = [held.job for held in self._held.values() if held.line is not None and not held.ending]
        now_s = self._seams.clock.monotonic_s()
        never = [job.id for job in queue if not scheduler.fits(job, rules=self._rules)]  # claimed, and told so
        for name in (*scheduler.admit(queue, active, rules=self._rules, now_s=now_s), *never):
            self._held[name].line = self._seams.open(self._held[name].order)
        for held in self._held.values():
            if held.line is not None and held.line.run is not None and held.search is None and not held.ending:
                with self._one(held):
                    self._start(held)

    def _start(self, held: _Held) -> None:
        order, line = held.order, held.line
        if order.died >= _MOST_DEATHS:
            raise WorkFailed(
                f"the process died {order.died} times while it stepped this search",
                cure="Evaluate the problem by hand: it may end the interpreter, or take all memory.",
            )
        if not scheduler.fits(held.job, rules=self._rules):
            raise WorkFailed(
                "the search does not fit into the memory for searches",
                given=f"{held.job.memory_bytes / 2**30:.1f} GiB",
                expected=f"at most {self._rules.memory_bytes / 2**30:.1f} GiB",
                cure="Give a smaller population_size.",
            )
        self._say(
            order, f"attempt {order.attempt} of {order.run_id}, in a host of many searches (process {os.getpid()})"
        )
        line.event("provenance", dict(self._seams.provenance))
        given = searching.Given(
            run_id=order.run_id,
            attempt=order.attempt,
            reporter=line,
            clock=self._seams.clock,
            directory=self._seams.runs / order.run_id,
            checkpoint=line.run.checkpoint_uri,
            lookup=lambda run_id: self._seams.lookup(order, run_id),
        )
        held.search = searching.begin(document.parse(OptimizeSpec, order.spec), given)
        made = held.search.searching.generation
        if made:
            self._say(order, f"taken up at generation {made}")
        held.job = dataclasses.replace(held.job, generations_left=_left(held.search))

    def _turn(self, held: _Held, *, among: int) -> None:
        """Whole generations until the deficit is spent."""
        if not scheduler.may_go(held.job):
            return
        assert held.search is not None
        held.search.tells_s = max(searching.TELLS_S, among / _FRONTS_PER_S)
        with self._one(held):
            while scheduler.may_go(held.job) and not held.search.done:
                self._step(held, held.search)
            if held.search.done:
                self._finish(held, held.search)
            elif scheduler.goes_alone(held.job, rules=self._rules):
                self._move(held, held.search)

    def _step(self, held: _Held, search: SearchJob) -> None:
        began_s, waited_s = self._seams.clock.monotonic_s(), self._seams.waited_s()
        self._stepping = (held.order.name, began_s)
        self._evaluated_elsewhere(held, search.searching)
        made = search.step()
        if held.line.beat(searching.progress(made)) == "stopping":
            search.searching.stop()
        took_s = self._seams.clock.monotonic_s() - began_s - (self._seams.waited_s() - waited_s)
        held.job = scheduler.charge(held.job, ms=1e3 * max(took_s, 0.0))
        left = _UNKNOWN if made.of is None else made.of - made.number
        held.job = dataclasses.replace(held.job, generations_left=0 if search.done else max(left, 1))

    def _evaluated_elsewhere(self, held: _Held, found: Searching) -> None:
        """In a host of its own, a search whose rows are dear has them evaluated on Ray, as in any other process of its own."""
        if not self._alone:
            return
        left = searching.rows_left(found)
        if searching.wanted_elsewhere(found.spec, row_s=found.row_s, measured=held.batches, left=left):
            found.evaluate_with(self._open.enter_context(self._seams.elsewhere(found.spec, found.subject.problem)))
        held.batches += 1

    def _finish(self, held: _Held, search: SearchJob) -> None:
        result = {**search.finish(), "provenance": dict(self._seams.provenance)}
        held.ending = True
        held.line.finish(result["state"], result=result, checkpoint_uri=result["checkpoint_uri"])
        self._say(held.order, f"{result['state']}: {result['summary']}")

    def _move(self, held: _Held, search: SearchJob) -> None:
        search.save()
        self._say(held.order, f"{held.job.ms_per_generation:.0f} ms a generation: it goes on in a process of its own")
        held.ending = held.moves = True
        held.line.leave()

    def _stop(self, held: _Held) -> None:
        if held.search is not None and not held.ending:
            held.search.searching.stop()
            with self._one(held):
                self._finish(held, held.search)
        elif held.line is None:
            self._let_go(held.order.name, held)

    def _let_go(self, name: str, held: _Held) -> None:
        if held.line is not None and held.line.refused is not None:
            self._say(held.order, f"not begun: {held.line.refused.detail}")
        if held.moves:
            self._seams.move(held.order)
        self._inbox.remove(name)
        del self._held[name]

    @contextlib.contextmanager
    def _one(self, held: _Held) -> Iterator[None]:
        """What is done for one search: marked as its doing, its output in its log; its fault ends it and nothing else."""
        self._mark.set(held.order.name)
        self._stepping = (held.order.name, self._seams.clock.monotonic_s())
        path = self._seams.runs / held.order.run_id / f"log.{held.order.attempt}.txt"
        try:
            with path.open("a", buffering=1) as log, contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
                yield
        except LostLease as error:
            held.ending = held.line.over = True  # somebody else has the run, or it has ended: nothing to tell
            self._say(held.order, error.detail)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - SystemExit too: a problem of the user's must not end the others
            held.ending = True
            self._say(held.order, traceback.format_exc().rstrip())
            held.line.finish("failed", error=told(error))
        finally:
            self._stepping = None
            self._mark.set("")

    def _outdated(self, order: Order) -> bool:
        """Whether the problem is a module that this process has loaded and that has changed since, or one beside it has."""
        module = sys.modules.get(str(order.spec.get("problem", "")).partition(":")[0])
        path = None if module is None else getattr(module, "__file__", None)
        if path is None or self._alone:
            return False
        return any(other.stat().st_mtime > self._began_s for other in Path(path).parent.glob("*.py"))

    def _say(self, order: Order, words: str) -> None:
        with (self._seams.runs / order.run_id / f"log.{order.attempt}.txt").open("a") as log:
            log.write(words + "\n")

    def _job(self, order: Order, *, now_s: float) -> Job:
        """The order as the policy sees it; what cannot be read is found out when it begins, and told there."""
        waited_s = max(self._seams.clock.now_us() - order.created_us, 0) / 1e6
        job = Job(id=order.name, since_s=now_s - waited_s, generations_left=1, tenant=order.tenant)
        with contextlib.suppress(Exception):
            spec = document.parse(OptimizeSpec, order.spec)
            deadline_s = None if spec.deadline_s is None else job.since_s + spec.deadline_s
            job = dataclasses.replace(job, priority=spec.priority, deadline_s=deadline_s)
            subject = problems.resolve(spec).problem
            size = scheduler.memory_bytes(
                population=stopping.effort(spec).population_size,
                variables=int(subject.n_var),
                objectives=int(subject.n_obj),
            )
            return dataclasses.replace(job, memory_bytes=size)
        return job


def watch(host: Host, over: threading.Event) -> None:
    """Ends this process where one search holds it: the others go on from their checkpoints in the next one."""
    while not over.wait(1.0):
        name = host.stuck()
        if name is not None:
            _LOG.error("%s holds the core: this host ends, and begins anew without it", name)
            host.put_out(name)
            os._exit(75)


def _left(search: SearchJob) -> int:
    rules = search.searching.effort.rules
    left = _UNKNOWN if rules.generations is None else rules.generations - search.searching.generation
    return max(left, 1)
