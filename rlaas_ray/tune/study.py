"""A study: asks for trials, hears their reports, stops some, tells the sampler and the journal; and the loop that drives it.

Made by run.py; the hands that run its trials are in this process or in actors (pool.py). Restored from the journal it goes on as
if it had not been killed. Populations (population.py) are driven by the same loop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from rlaas_ray.errors import InvalidInput, WorkFailed, nearest
from rlaas_ray.specs import tune as specs
from rlaas_ray.specs.tune import TuneSpec
from rlaas_ray.tune import journal as journals
from rlaas_ray.tune import trials
from rlaas_ray.tune.journal import Journal, Record, Trial
from rlaas_ray.tune.samplers import Sampler
from rlaas_ray.tune.schedulers import Rule
from rlaas_ray.tune.trials import Hand, Job, Outcome

DEATHS = 3  # of the process of one trial, before the trial is called failed
FAILURES = 3  # in a row from the first: what every trial runs into is no result
_WAIT_S = 0.5


class Hands(Protocol):
    """Runs trials side by side, one in each of `count` slots."""

    count: int

    def begin(self, slot: int, *, job: Job) -> None:
        """Start a trial in a free slot."""
        ...

    def step(self, slot: int, *, go: bool) -> None:
        """Let the trial that waits there go on, or end."""
        ...

    def wait(self, *, timeout_s: float) -> list[tuple[int, Outcome]]:
        """What has come, in the order of the slots; nothing after the timeout."""
        ...

    def stop(self) -> None:
        """All trials shall end at their next safe point."""
        ...

    def close(self) -> None:
        """Release processes."""
        ...


class Source(Protocol):
    """Where jobs come from and outcomes go."""

    def next(self) -> Job | None:
        """The next job; None when there is none now."""
        ...

    def reported(self, job: Job, *, outcome: Outcome) -> bool:
        """Whether the trial goes on."""
        ...

    def ended(self, job: Job, *, outcome: Outcome) -> None:
        """The job is over: completed, halted, failed or died."""
        ...

    def expire(self) -> None:
        """No more jobs; what is halted from now on has ended."""
        ...


class InProcess:
    """One hand, in this process: no Ray."""

    count = 1

    def __init__(self, hand: Hand) -> None:
        self._hand = hand
        self._due: Callable[[], Outcome] | None = None

    def begin(self, slot: int, *, job: Job) -> None:
        self._due = lambda: self._hand.begin(job)

    def step(self, slot: int, *, go: bool) -> None:
        self._due = lambda: self._hand.step(go=go)

    def wait(self, *, timeout_s: float) -> list[tuple[int, Outcome]]:
        due, self._due = self._due, None
        return [] if due is None else [(0, due())]

    def stop(self) -> None:
        self._hand.stop()

    def close(self) -> None:
        return None


def drive(source: Source, hands: Hands, *, tick: Callable[[], str]) -> None:
    """Until there is nothing left to do. `tick` is asked between outcomes: `go on`, `expire` or `stop`."""
    jobs: dict[int, Job] = {}
    ending = False
    while True:
        free = [slot for slot in range(hands.count) if slot not in jobs]
        while free and not ending and (job := source.next()) is not None:
            jobs[free[0]] = job
            hands.begin(free.pop(0), job=job)
        if not jobs:
            return
        for slot, outcome in hands.wait(timeout_s=_WAIT_S):
            if outcome.kind == "report":
                go = source.reported(jobs[slot], outcome=outcome)
                hands.step(slot, go=go and not ending)
            else:
                source.ended(jobs.pop(slot), outcome=outcome)
        said = tick()
        if said != "go on" and not ending:
            ending = True
            if said == "expire":
                source.expire()
            hands.stop()


class Study:
    """Ask and tell, with early stopping. `told` hears of every change of a trial."""

    def __init__(
        self,
        spec: TuneSpec,
        *,
        sampler: Sampler,
        rule: Rule,
        journal: Journal,
        folder: Path,
        limit: int,
        told: Callable[[Trial], None],
    ) -> None:
        self._spec, self._sampler, self._rule = spec, sampler, rule
        self._journal, self._folder, self._limit, self._told = journal, folder, limit, told
        self.trials: dict[int, Trial] = {}
        self._again: list[int] = []
        self._halted: set[int] = set()
        self._deaths: dict[int, int] = {}
        self._exhausted = self._expired = False
        self._replay(journal.records)

    def next(self) -> Job | None:
        if self._expired:
            return None
        while self._again:
            trial = self.trials[self._again.pop(0)]
            if trial.number not in self._halted:
                return self._job(trial, again=True)
            # its last report had decided: killed before that was told, it need not run again
            seen, seconds = trial.reports[-1]["metrics"], trial.seconds or 0.0
            last = Outcome(kind="stopped", step=trial.step, metrics=seen, seconds=seconds)
            self.ended(self._job(trial, again=True), outcome=last)
        number = len(self.trials)
        if self._exhausted or number >= self._limit:
            return None
        parameters = self._sampler.ask(number)
        if parameters is None:
            self._exhausted = True
            return None
        self._journal.add("asked", trial=number, parameters=parameters)
        trial = self.trials[number] = Trial(number=number, parameters=parameters)
        self._told(trial)
        return self._job(trial, again=False)

    def reported(self, job: Job, *, outcome: Outcome) -> bool:
        trial = self.trials[job.number]
        if job.number in self._halted:
            return False
        if outcome.step <= trial.step:  # a trial that was resumed shows again what it had shown
            return True
        self._add("reported", trial, step=outcome.step, metrics=outcome.metrics, seconds=outcome.seconds)
        self._told(trial)
        if self._out(trial):
            self._halted.add(job.number)
        return job.number not in self._halted

    def ended(self, job: Job, *, outcome: Outcome) -> None:
        trial = self.trials[job.number]
        if outcome.kind == "died":
            self._died(trial, outcome=outcome)
        elif outcome.kind == "failed":
            self._fail(trial, error=outcome.error or {}, seconds=outcome.seconds)
        elif outcome.kind in {"end", "stopped"} or job.number in self._halted or self._expired:
            state = "completed" if outcome.kind == "end" else "stopped"
            try:
                found = ended(self._spec, outcome, state=state)
            except InvalidInput as error:
                self._fail(trial, error=trials.told(error), seconds=outcome.seconds)
                return
            self._add("told", trial, **found, seconds=outcome.seconds)
            self._hear(trial)
            self._told(trial)
        # else the run is stopped: the trial stays in the journal as running, and goes on when the run is resumed

    def expire(self) -> None:
        self._expired = True

    def moved(self, number: int, *, parameters: Mapping[str, Any]) -> None:
        """A scheduler of Ray Tune has changed a running trial."""
        self._add("moved", self.trials[number], parameters=dict(parameters))

    def _job(self, trial: Trial, *, again: bool) -> Job:
        directory = str(self._folder / f"{trial.number:05d}")
        seen = trial.reports[-1]["metrics"] if trial.reports else {}
        return Job(number=trial.number, parameters=trial.parameters, directory=directory, again=again, seen=seen)

    def _add(self, kind: str, trial: Trial, **data: Any) -> None:
        self._journal.add(kind, trial=trial.number, **data)
        journals.apply(trial, kind=kind, data=data)

    def _died(self, trial: Trial, *, outcome: Outcome) -> None:
        self._deaths[trial.number] = self._deaths.get(trial.number, 0) + 1
        if self._deaths[trial.number] < DEATHS:
            self._again.append(trial.number)
        else:
            self._fail(trial, error=outcome.error or {}, seconds=outcome.seconds)

    def _fail(self, trial: Trial, *, error: Mapping[str, Any], seconds: float) -> None:
        self._add("failed", trial, error=dict(error), seconds=seconds)
        self._sampler.tell(trial)
        self._told(trial)
        ended = [other for other in self.trials.values() if other.ended]
        if len(ended) >= min(FAILURES, self._limit) and all(other.state == "failed" for other in ended):
            raise WorkFailed(
                f"all of the first {len(ended)} trials failed: {error.get('detail')}",
                given=trial.parameters,
                cure=error.get("cure") or "Mend what `train` or `function` says; `rlaas runs logs` shows more.",
            )

    def _out(self, trial: Trial) -> bool:
        value = self._sign(trial.reports[-1]["metrics"].get(self._spec.judged_by))
        return value is not None and self._rule.stops(trial.number, step=trial.step, value=value)

    def _hear(self, trial: Trial) -> None:
        """The sampler and the rule learn of an end, now or at replay."""
        self._sampler.tell(trial)
        value = self._sign(trial.metrics.get(self._spec.judged_by))
        if trial.state == "completed" and value is not None:
            self._rule.ended(trial.number, value=value)

    def _sign(self, value: Any) -> float | None:
        if not trials.is_number(value):
            return None
        return float(value) if self._spec.objectives[0].maximise else -float(value)

    def _replay(self, records: list[Record]) -> None:
        """What lies in the journal happened: the sampler and the rule hear it again, in its order."""
        for record in records:
            data = dict(record.data)
            if record.kind == "asked":
                trial = self.trials[data["trial"]] = Trial(number=data["trial"], parameters=data["parameters"])
                self._sampler.asked(trial.number, trial.parameters)
            elif record.kind in {"reported", "told", "failed", "moved"}:
                trial = self.trials[data.pop("trial")]
                journals.apply(trial, kind=record.kind, data=data)
                if record.kind == "reported":
                    if self._out(trial):
                        self._halted.add(trial.number)
                elif record.kind == "told":
                    self._hear(trial)
                elif record.kind == "failed":
                    self._sampler.tell(trial)
        self._again = [number for number, trial in self.trials.items() if not trial.ended]
        self._limit = max(self._limit, len(self.trials))


def ended(spec: TuneSpec, outcome: Outcome, *, state: str) -> dict[str, Any]:
    """What `told` says of a trial. Raises InvalidInput where a metric is not there."""
    metrics = outcome.metrics
    partly = state == "stopped"
    values = [_metric(metrics, objective.metric, missing_ok=partly) for objective in spec.objectives]
    limits = [(limit, _metric(metrics, limit.metric, missing_ok=partly)) for limit in spec.limits]
    whole = [value for value in values if value is not None]
    seeds = []
    for seed in outcome.seeds:
        own = [seed["metrics"].get(objective.metric) for objective in spec.objectives]
        if not partly or all(value is not None for value in own):
            seeds.append({"seed": seed["seed"], "values": own, "bundles": seed["bundles"]})
    return {
        "state": state,
        "values": whole if len(whole) == len(values) else None,
        "violations": _violations(limits),
        "metrics": metrics,
        "seeds": seeds,
    }


def _violations(limits: list[tuple[specs.Constraint, float | None]]) -> list[float]:
    if any(value is None for _, value in limits):
        return []
    return [limit.violation(value) for limit, value in limits if value is not None]


def _metric(metrics: Mapping[str, Any], name: str, *, missing_ok: bool) -> float | None:
    value = metrics.get(name)
    if trials.is_number(value) and math.isfinite(float(value)):  # type: ignore[arg-type]  # is_number looked
        return float(value)  # type: ignore[arg-type]
    if missing_ok:
        return None
    raise InvalidInput(
        f"metric {name!r} of a trial",
        given=value,
        expected="a finite number at its end",
        cure=nearest(name, sorted(metrics)),
    )
