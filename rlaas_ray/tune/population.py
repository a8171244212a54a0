"""Population based training (Jaderberg et al. 2017), in rounds: all train an interval, then the worst take over from the best.

Driven by study.drive like a Study. A round ends when every member has paused, so what is copied and how it changes depends on
the seed and the reports alone, not on which trial was faster; a killed study decides the same again.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rlaas_ray.errors import InvalidInput, WorkFailed
from rlaas_ray.specs.tune import Scheduler, TuneSpec
from rlaas_ray.tune import journal as journals
from rlaas_ray.tune import samplers, study, trials
from rlaas_ray.tune.journal import Journal, Record, Trial
from rlaas_ray.tune.spaces import Parameters, Space
from rlaas_ray.tune.trials import Job, Outcome

_FACTORS = (0.8, 1.2)


class Population:
    """`size` trials that share one budget each, and learn from one another at the end of each round."""

    def __init__(
        self,
        spec: TuneSpec,
        *,
        space: Space,
        journal: Journal,
        folder: Path,
        size: int,
        told: Callable[[Trial], None],
    ) -> None:
        self._spec, self._space, self._journal, self._folder, self._told = spec, space, journal, folder, told
        self._interval = spec.scheduler.interval
        self._rounds = max(1, -(-spec.reports // self._interval))
        self.trials: dict[int, Trial] = {}
        self._round, self._expired = 1, False
        self._deaths: dict[int, int] = {}
        self._begun: set[int] = set()
        self._waiting: list[int] = []
        self._replay(journal.records)
        first = samplers.Chance(space, seed=spec.seed)
        for number in range(len(self.trials), size):
            self._enter(number, parameters=first.ask(number) or {})
        self._line_up()

    def next(self) -> Job | None:
        if self._expired or not self._waiting:
            return None
        number = self._waiting.pop(0)
        trial = self.trials[number]
        again = number in self._begun
        self._begun.add(number)
        self._told(trial)
        seen = trial.reports[-1]["metrics"] if trial.reports else {}
        directory = str(self._directory(number))
        return Job(number=number, parameters=trial.parameters, directory=directory, again=again, seen=seen)

    def reported(self, job: Job, *, outcome: Outcome) -> bool:
        trial = self.trials[job.number]
        if outcome.step > trial.step:
            self._add("reported", trial, step=outcome.step, metrics=outcome.metrics, seconds=outcome.seconds)
            self._told(trial)
        return outcome.step < self._until

    def ended(self, job: Job, *, outcome: Outcome) -> None:
        trial = self.trials[job.number]
        if outcome.kind == "died" and self._deaths.get(job.number, 0) + 1 < study.DEATHS:
            self._deaths[job.number] = self._deaths.get(job.number, 0) + 1
            self._waiting.append(job.number)
            return
        if outcome.kind in {"failed", "died"}:
            self._add("failed", trial, error=dict(outcome.error or {}), seconds=outcome.seconds)
        elif outcome.kind == "end" or self._expired:
            self._end(trial, outcome=outcome)
        elif trial.step < self._until:
            return  # the run is stopped in the middle of a round
        self._told(trial)
        self._turn()

    def expire(self) -> None:
        self._expired = True

    @property
    def _until(self) -> int:
        """The report that ends the round; beyond all in the last one, so that trials end by themselves."""
        return self._round * self._interval if self._round < self._rounds else self._spec.reports + 1

    def _end(self, trial: Trial, *, outcome: Outcome) -> None:
        state = "completed" if outcome.kind == "end" else "stopped"
        try:
            found = study.ended(self._spec, outcome, state=state)
        except InvalidInput as error:
            self._add("failed", trial, error=trials.told(error), seconds=outcome.seconds)
            return
        self._add("told", trial, **found, seconds=outcome.seconds)

    def _turn(self) -> None:
        """The next round, once everyone is where this one ends."""
        running = [trial for trial in self.trials.values() if not trial.ended]
        if not running:
            failed = [trial for trial in self.trials.values() if trial.state == "failed"]
            if len(failed) == len(self.trials):
                detail = (failed[-1].error or {}).get("detail")
                raise WorkFailed(f"all {len(failed)} trials failed: {detail}", cure="Mend what they run into.")
            return
        if self._expired or any(trial.step < self._until for trial in running):
            return
        for number, source, parameters in exchanged(
            {trial.number: trial for trial in running},
            values={trial.number: self._value(trial) for trial in running},
            space=self._space,
            scheduler=self._spec.scheduler,
            rng=np.random.default_rng([self._spec.seed, 0xBE7, self._round]),
        ):
            self._copy(source, number)
            self._add("moved", self.trials[number], source=source, parameters=parameters, round=self._round)
        self._journal.add("round", round=self._round)
        self._round += 1
        self._line_up()

    def _line_up(self) -> None:
        self._waiting = [n for n, trial in self.trials.items() if not trial.ended and trial.step < self._until]
        if not self._waiting:
            self._turn()

    def _value(self, trial: Trial) -> float:
        value = trial.reports[-1]["metrics"].get(self._spec.judged_by)
        if not trials.is_number(value):
            return -np.inf
        return float(value) if self._spec.objectives[0].maximise else -float(value)

    def _copy(self, source: int, target: int) -> None:
        """The folder of one member becomes that of another; whole, or the one before."""
        partial = self._directory(target).with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        if self._directory(source).exists():
            shutil.copytree(self._directory(source), partial)
            shutil.rmtree(self._directory(target), ignore_errors=True)
            partial.rename(self._directory(target))

    def _directory(self, number: int) -> Path:
        return self._folder / f"{number:05d}"

    def _enter(self, number: int, *, parameters: Parameters) -> None:
        self._journal.add("asked", trial=number, parameters=parameters)
        self.trials[number] = Trial(number=number, parameters=parameters)

    def _add(self, kind: str, trial: Trial, **data: Any) -> None:
        self._journal.add(kind, trial=trial.number, **data)
        journals.apply(trial, kind=kind, data=data)

    def _replay(self, records: list[Record]) -> None:
        self.trials = journals.trials(records)
        self._round = 1 + sum(record.kind == "round" for record in records)
        self._begun = set(self.trials)


def exchanged(
    members: Mapping[int, Trial],
    *,
    values: Mapping[int, float],
    space: Space,
    scheduler: Scheduler,
    rng: np.random.Generator,
) -> list[tuple[int, int, Parameters]]:
    """Who takes over from whom, with which parameters: the worst `quantile` from one of the best; nobody alone."""
    order = sorted(members, key=lambda number: (values[number], -number))
    count = min(max(1, round(len(order) * scheduler.quantile)), len(order) // 2)
    best = order[len(order) - count :]
    found = []
    for number in order[:count]:
        source = best[int(rng.integers(len(best)))]
        if values[source] > values[number]:
            parameters = explored(members[source].parameters, space=space, resample=scheduler.resample, rng=rng)
            found.append((number, source, parameters))
    return found


def explored(parameters: Parameters, *, space: Space, resample: float, rng: np.random.Generator) -> Parameters:
    """Each parameter drawn anew with probability `resample`, else moved to 0.8 or 1.2 of itself, or to its neighbour."""
    found: Parameters = {}
    for name, value in parameters.items():
        domain = space.domains[name]
        if rng.random() < resample:
            found[name] = domain.at(float(rng.random()))
        else:
            found[name] = domain.near(value, factor=_FACTORS[int(rng.integers(2))])
    return found
