"""One trial, step by step: trainings of several seeds side by side, or a function of the user; it waits at each report.

Held by a Hand, in this process or in an actor (pool.py), and by raytune.py. A trial that was begun before goes on from what its
folder holds. Knows no sampler, no journal and no Ray.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import math
import threading
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal

import numpy as np

from rlaas_ray.errors import InvalidInput, NotFound, RlaasError, WorkFailed
from rlaas_ray.specs import document
from rlaas_ray.specs import tune as specs
from rlaas_ray.specs.runs import Progress, Run, RunState
from rlaas_ray.specs.seams import Clock, Reporter
from rlaas_ray.specs.train import TrainSpec
from rlaas_ray.specs.tune import TuneSpec

_NO = False
CHECKPOINT_EVERY_S = 5.0  # of a trial, where its spec says no more than "after every iteration"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a hand is given. `again`: the folder holds what an earlier part of this trial left; `seen`: its last report."""

    number: int
    parameters: dict[str, Any]
    directory: str
    again: bool = False
    seen: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a hand gives back. `step` counts reports; `seeds` has of each seed its metrics and bundles, at the end.

    `halted`: it saved what it has and may go on; `stopped`: whoever runs it has ended it early.
    """

    kind: Literal["report", "end", "halted", "stopped", "failed", "died"]
    step: int = 0
    metrics: dict[str, Any] = field(default_factory=dict)
    seeds: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    error: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    step: int
    metrics: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ended:
    metrics: dict[str, Any]
    whole: bool = True
    bundles: list[dict[str, Any]] = field(default_factory=list)


_Steps = Generator[_Seen, bool | None, _Ended]


class Hand:
    """Runs one trial after another, each from report to report. `stop` may be called from another thread."""

    def __init__(self, spec: TuneSpec, *, clock: Clock, key_file: Path, stop: threading.Event | None = None) -> None:
        self._spec, self._clock, self._key_file = spec, clock, key_file
        self._stop = stop or threading.Event()
        self._steps: Generator[Outcome, bool | None, Outcome] | None = None
        self._began_s = 0.0
        self._last = Outcome(kind="report")

    def begin(self, job: Job) -> Outcome:
        """Start a trial; gives its first report, or its end."""
        self._began_s = self._clock.monotonic_s()
        self._last = Outcome(kind="report")
        self._steps = _together(self._spec, job, clock=self._clock, key_file=self._key_file, stop=self._stop)
        return self._advance(go=None)

    def step(self, *, go: bool) -> Outcome:
        """The next report, or the end; with `go` false the trial saves what it has and ends, `halted`."""
        return self._advance(go=go)

    def stop(self) -> None:
        """End the trial at its next safe point, without waiting for it."""
        self._stop.set()

    def _advance(self, *, go: bool | None) -> Outcome:
        assert self._steps is not None
        try:
            found = self._last = self._steps.send(go)
        except StopIteration as end:
            found = end.value
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a trial that fails is a result: the study goes on
            where = {} if isinstance(error, RlaasError) else {"traceback": traceback.format_exc(limit=-8)}
            found = Outcome(kind="failed", step=self._last.step, error={**told(error), **where})
        return Outcome(
            kind=found.kind,
            step=found.step,
            metrics=found.metrics,
            seeds=found.seeds,
            error=found.error,
            seconds=self._clock.monotonic_s() - self._began_s,
        )


def told(error: BaseException) -> dict[str, Any]:
    """An error as JSON values."""
    if isinstance(error, RlaasError):
        return {"reason": error.slug, "detail": error.detail, "cure": error.cure}
    return {"reason": type(error).__name__, "detail": str(error) or type(error).__name__, "cure": None}


def spec_of(spec: TuneSpec, parameters: Mapping[str, Any], *, seed: int) -> TrainSpec:
    """The TrainSpec of one seed of a trial: in one process, without Ray, unless the study's says otherwise."""
    assert spec.train is not None
    options = list(specs.option_fields(spec.train, spec.space) or ())
    body = specs.body(spec.train, parameters, options=options)
    body.setdefault("num_env_runners", 0)
    body |= {"seed": seed, "checkpoint_every_s": body.get("checkpoint_every_s") or CHECKPOINT_EVERY_S}
    if spec.name is not None:
        body["name"] = spec.name
    return document.parse(TrainSpec, body)


def seeds_of(spec: TuneSpec) -> list[int]:
    """The same for every trial: differences between trials are then less chance."""
    first = spec.train.seed if spec.train is not None else spec.seed
    return [first + k for k in range(spec.seeds)]


def load(name: str) -> Callable[..., Any]:
    """The function of `module:function`. Raises NotFound."""
    module, _, attribute = name.partition(":")
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise NotFound(
            f"function {name!r} does not import",
            given=str(error),
            expected="module:function",
            cure="Check the spelling, and that the module is installed or in the working directory.",
        ) from error
    return found


def _together(
    spec: TuneSpec, job: Job, *, clock: Clock, key_file: Path, stop: threading.Event
) -> Generator[Outcome, bool | None, Outcome]:
    """All seeds in lockstep; the metrics of a report are means over them."""
    made = {seed: _one(spec, job, seed=seed, clock=clock, key_file=key_file, stop=stop) for seed in seeds_of(spec)}
    latest: dict[int, _Seen] = {}
    ended: dict[int, _Ended] = {}
    go: bool | None = None
    try:
        while True:
            for seed, steps in made.items():
                if seed in ended:
                    continue
                try:
                    latest[seed] = steps.send(go)
                except StopIteration as end:
                    ended[seed] = end.value
            running = [seen.step for seed, seen in latest.items() if seed not in ended]
            if not running:
                return _outcome(ended, step=max((seen.step for seen in latest.values()), default=0))
            seen = [ended[seed].metrics if seed in ended else latest[seed].metrics for seed in made]
            go = yield Outcome(kind="report", step=min(running), metrics=mean(seen))
    finally:
        for steps in made.values():
            steps.close()


def _outcome(ended: Mapping[int, _Ended], *, step: int) -> Outcome:
    whole = all(end.whole for end in ended.values())
    return Outcome(
        kind="end" if whole else "halted",
        step=step,
        metrics=mean([end.metrics for end in ended.values()]),
        seeds=[{"seed": seed, "metrics": end.metrics, "bundles": end.bundles} for seed, end in ended.items()],
    )


def mean(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Each number that all rows have, as its mean."""
    names = [name for name in rows[0] if all(is_number(row.get(name)) for row in rows)] if rows else []
    return {name: float(np.mean([row[name] for row in rows])) if len(rows) > 1 else rows[0][name] for name in names}


def is_number(value: Any) -> bool:
    """A finite number, and no truth value."""
    return isinstance(value, int | float | np.number) and not isinstance(value, bool) and math.isfinite(value)


def _one(spec: TuneSpec, job: Job, *, seed: int, clock: Clock, key_file: Path, stop: threading.Event) -> _Steps:
    directory = Path(job.directory) / f"seed-{seed}"
    if spec.function is not None:
        return _function(spec.function, job, seed=seed, directory=directory, stop=stop)

    def body(report: Callable[[_Seen], bool]) -> _Ended:
        return _train(spec, job, seed=seed, directory=directory, clock=clock, key_file=key_file, stop=stop, tell=report)

    return _stepwise(body)


def _function(name: str, job: Job, *, seed: int, directory: Path, stop: threading.Event) -> _Steps:
    """A user's function: metrics returned are the end, metrics yielded are reports."""
    function = load(name)
    takes = inspect.signature(function).parameters
    more: dict[str, Any] = {"seed": seed} if "seed" in takes else {}
    if "folder" in takes:
        directory.mkdir(parents=True, exist_ok=True)
        more["folder"] = directory
    found = function(dict(job.parameters), **more)
    if not isinstance(found, Iterator):
        return _Ended(metrics=_checked(found, name=name))
    metrics: dict[str, Any] = {}
    with contextlib.closing(found) if isinstance(found, Generator) else contextlib.nullcontext(found) as each:
        for step, row in enumerate(each, 1):
            metrics = _checked(row, name=name)
            go = yield _Seen(step=int(metrics.pop("step", step)), metrics=metrics)
            if go is False or stop.is_set():
                return _Ended(metrics=metrics, whole=False)
    if not metrics and job.again:  # all was done when the trial was halted
        return _Ended(metrics=job.seen)
    if not metrics:
        raise InvalidInput(f"function {name}", given="nothing", expected="metrics, returned or yielded")
    return _Ended(metrics=metrics)


def _checked(metrics: Any, *, name: str) -> dict[str, Any]:
    if not isinstance(metrics, Mapping):
        raise InvalidInput(f"function {name}", given=metrics, expected="a mapping of metrics, returned or yielded")
    return {
        key: value.item() if isinstance(value, np.generic) else value
        for key, value in metrics.items()
        if is_number(value)
    }


def _stepwise(body: Callable[[Callable[[_Seen], bool]], _Ended]) -> _Steps:
    """A body that calls back, as a generator: it has a thread, and waits there at each report."""
    said: SimpleQueue[_Seen | _Ended | BaseException] = SimpleQueue()
    answers: SimpleQueue[bool] = SimpleQueue()
    over = threading.Event()

    def report(seen: _Seen) -> bool:
        if over.is_set():
            return False
        said.put(seen)
        if not answers.get():
            over.set()
        return not over.is_set()

    def run() -> None:
        try:
            said.put(body(report))
        except BaseException as error:  # noqa: BLE001 - raised again where the trial is held
            said.put(error)

    thread = threading.Thread(target=run, name="rlaas-trial", daemon=True)
    thread.start()
    try:
        while True:
            found = said.get()
            if isinstance(found, BaseException):
                raise found
            if isinstance(found, _Ended):
                return found
            answers.put((yield found) is not False)
    finally:
        over.set()
        answers.put(_NO)
        thread.join()


def _train(
    spec: TuneSpec,
    job: Job,
    *,
    seed: int,
    directory: Path,
    clock: Clock,
    key_file: Path,
    stop: threading.Event,
    tell: Callable[[_Seen], bool],
) -> _Ended:
    from rlaas_ray.train import runner, threads  # noqa: PLC0415 - a function of the user needs no torch

    threads.use_one()
    reporter = TrialReporter(reports=spec.reports, tell=tell)
    result = runner.execute(
        spec_of(spec, job.parameters, seed=seed),
        run_id=f"trial-{job.number}-{seed}",
        attempt=2 if job.again else 1,
        reporter=reporter,
        clock=clock,
        directory=directory,
        stop=stop,
        key_file=key_file,
        report_every_s=0.0,
    )
    metrics = {**reporter.latest, **_flat(result)}
    return _Ended(metrics=metrics, whole=result["state"] == "succeeded", bundles=reporter.bundles)


def _flat(result: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of a training's result; of its evaluation as `evaluation.return_mean` and so on."""
    found = {name: value for name, value in result.items() if is_number(value)}
    for name, value in (result.get("evaluation") or {}).items():
        if is_number(value):
            found[f"evaluation.{name}"] = value
        elif isinstance(value, Mapping):
            found |= {f"evaluation.{name}.{key}": item for key, item in value.items() if is_number(item)}
    return found


class TrialReporter(Reporter):
    """What a training reports to: parts of its budget become reports of the trial; nothing leaves the process."""

    def __init__(self, *, reports: int, tell: Callable[[_Seen], bool]) -> None:
        self.latest: dict[str, Any] = {}
        self.bundles: list[dict[str, Any]] = []
        self._reports, self._tell, self._done = reports, tell, 0
        self._state: RunState = "running"

    def claim(self) -> Run:
        raise WorkFailed("a trial is nobody's run", cure="The study has claimed it.")

    def beat(self, progress: Progress) -> RunState:
        step = math.floor(progress.fraction * self._reports + 1e-9)
        if step > self._done and self._state == "running" and progress.message is None:
            self._done = step
            if not self._tell(_Seen(step=step, metrics=dict(self.latest))):
                self._state = "stopping"
        return self._state

    def event(self, kind: str, data: Mapping[str, Any]) -> None:
        return None

    def metrics(self, rows: Sequence[Mapping[str, float | int | None]]) -> None:
        self.latest = {name: value for name, value in rows[-1].items() if name != "time_us" and is_number(value)}
        if "step" in self.latest:
            self.latest["steps"] = self.latest.pop("step")

    def finish(
        self,
        state: RunState,
        *,
        result: Mapping[str, Any] | None = None,
        error: Mapping[str, Any] | None = None,
        checkpoint_uri: str | None = None,
    ) -> None:
        return None

    def register(self, bundle: Path, *, name: str, evaluation: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """Kept in mind; the study registers the bundle of its best trial."""
        self.bundles.append({"path": str(bundle), "name": name, "evaluation": dict(evaluation or {})})
        return {"name": name, "path": str(bundle)}
