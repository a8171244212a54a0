"""The other executor: Ray Tune's Tuner runs the trials, for HyperBand, its PBT and users' own schedulers.

Called by run.py. Searches, journal and trials are the same as the pool's: a Study is the searcher, a Hand the trainable.
Tune's own state is not needed to resume: told trials are not run again, running ones go on from their folders.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import ray
from ray import tune
from ray.tune import schedulers as rays
from ray.tune import search as searchers
from ray.tune import stopper as stoppers

from rlaas_ray.specs.seams import Clock
from rlaas_ray.specs.tune import TuneSpec
from rlaas_ray.train import cluster
from rlaas_ray.tune import pool, samplers, schedulers, trials
from rlaas_ray.tune.journal import Journal, Trial
from rlaas_ray.tune.spaces import Choice, Domain, Float, Int, Space
from rlaas_ray.tune.study import Study
from rlaas_ray.tune.trials import Hand, Job, Outcome

METRIC = "judged_by"  # of each result, what schedulers look at
_STEADY = frozenset({"none", "asha", "median"})  # schedulers that pause nobody
_ALL_AT_ONCE = frozenset({"pbt", "hyperband"})  # asked one by one, Tune never fills a bracket or a population
_SEEN = "seen.json"
_UNKNOWN = -1e300  # for a report before the first episode has ended


class TrialTrainable(tune.Trainable):
    """A Hand as Tune drives it. Actors are reused: another trial is another job of the same hand."""

    _job: Job
    _running: bool

    def setup(self, config: dict[str, Any], *, spec: TuneSpec, clock: Clock, key_file: Path) -> None:
        """Once for each actor."""
        self._spec = spec
        self._hand = Hand(spec, clock=clock, key_file=key_file)
        self._take(config)

    def step(self) -> dict[str, Any]:
        """Until the next report; `done` with the last."""
        outcome = self._hand.step(go=True) if self._running else self._hand.begin(self._job)
        self._running = outcome.kind == "report"
        if outcome.kind == "failed":
            raise RuntimeError((outcome.error or {}).get("detail", "the trial failed"))
        self._job = dataclasses.replace(self._job, seen=outcome.metrics)
        value: Any = outcome.metrics.get(self._spec.judged_by)
        sign = 1.0 if self._spec.objectives[0].maximise else -1.0
        return {
            METRIC: sign * float(value) if trials.is_number(value) else _UNKNOWN,
            "outcome": orjson.dumps(
                {  # one text: Tune takes mappings in results apart
                    "kind": outcome.kind,
                    "step": outcome.step,
                    "metrics": outcome.metrics,
                    "seeds": outcome.seeds,
                    "seconds": outcome.seconds,
                    "parameters": self._job.parameters,
                }
            ).decode(),
            "done": outcome.kind != "report",
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """The trial saves what it has; a copy of its folder is the checkpoint. It goes on from there when it is asked to."""
        self._rest()
        (Path(checkpoint_dir) / _SEEN).write_bytes(orjson.dumps(self._job.seen))
        if Path(self._job.directory).exists():
            shutil.copytree(self._job.directory, Path(checkpoint_dir) / "trial")

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        """The folder of that checkpoint becomes this trial's."""
        self._rest()
        source, own = Path(checkpoint_dir) / "trial", Path(self._job.directory)
        if source.exists():
            shutil.rmtree(own, ignore_errors=True)
            shutil.copytree(source, own)
        seen = orjson.loads((Path(checkpoint_dir) / _SEEN).read_bytes())
        self._job = dataclasses.replace(self._job, again=True, seen=seen)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Another trial, or the same with other parameters: nothing is built anew but the training itself."""
        self._rest()
        self._take(new_config)
        return True

    def cleanup(self) -> None:
        """The actor ends."""
        self._rest()

    def _take(self, config: Mapping[str, Any]) -> None:
        self._running = False
        told = config["job"]
        # Tune's PBT gives a trial the whole config of another: only its own id says which one it is.
        directory = told["directory"] or str(Path(told["folder"]) / self.trial_id)
        self._job = Job(
            number=told["trial"], parameters=dict(told["parameters"]), directory=directory, again=told["again"]
        )

    def _rest(self) -> None:
        if self._running:
            self._hand.step(go=False)
            self._running = False
        self._job = dataclasses.replace(self._job, again=True)


class StudySearcher(searchers.Searcher):
    """A Study as Tune asks and tells it."""

    def __init__(self, study: Study) -> None:
        super().__init__(metric=METRIC, mode="max")
        self._study = study
        self._jobs: dict[str, Job] = {}
        self.leaving = False

    def suggest(self, trial_id: str) -> Any:
        """The next trial's config; FINISHED when there is none."""
        job = self._study.next()
        if job is None:
            return searchers.Searcher.FINISHED
        self.takes(trial_id, job=job)
        return {"job": _config(job, folder=None)}

    def takes(self, trial_id: str, *, job: Job) -> None:
        """The trial of Tune that runs this job."""
        self._jobs.setdefault(trial_id, job)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """A report."""
        self._moved(trial_id, result=result)
        outcome = _outcome(result)
        if outcome.kind == "report":
            self._study.reported(self._jobs[trial_id], outcome=outcome)

    def on_trial_complete(  # noqa: PLR0917 - Tune's signature
        self,
        trial_id: str,
        result: dict[str, Any] | None = None,
        error: bool = False,  # noqa: FBT001, FBT002
    ) -> None:
        """An end: by itself, by the scheduler, or by a failure."""
        job = self._jobs.pop(trial_id, None)
        if job is None or self.leaving:
            return
        if error or result is None:
            told = {"reason": "trial-failed", "detail": "the trial failed; Tune's folder has its error", "cure": None}
            self._study.ended(job, outcome=Outcome(kind="failed", error=told))
            return
        outcome = _outcome(result)
        self._study.ended(job, outcome=outcome if outcome.kind == "end" else _early(outcome))

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune keeps copies of what it was given; the journal has what matters

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the journal has it."""
        Path(checkpoint_path).write_text("{}", encoding="utf-8")

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the journal has it."""

    def _moved(self, trial_id: str, *, result: Mapping[str, Any]) -> None:
        parameters = _said(result).get("parameters")
        job = self._jobs[trial_id]
        if parameters and parameters != self._study.trials[job.number].parameters:
            self._study.moved(job.number, parameters=dict(parameters))


class _Heard(tune.Callback):
    """Tells a searcher of trials that it was not asked for, one by one."""

    def __init__(self, searcher: StudySearcher, *, jobs: Sequence[Job]) -> None:
        self._searcher, self._jobs = searcher, {job.number: job for job in jobs}

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:  # noqa: PLR0917 - Tune's
        self._searcher.takes(trial.trial_id, job=self._jobs[trial.config["job"]["trial"]])

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:  # noqa: PLR0917
        self._searcher.on_trial_result(trial.trial_id, result)

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:  # noqa: PLR0917
        self._searcher.on_trial_complete(trial.trial_id, trial.last_result)

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:  # noqa: PLR0917
        self._searcher.on_trial_complete(trial.trial_id, trial.last_result, error=True)

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Ticks(stoppers.Stopper):
    """Asks the run whether to go on, as often as Tune asks."""

    def __init__(self, tick: Callable[[], str], *, study: Study, searcher: StudySearcher) -> None:
        self._tick, self._study, self._searcher = tick, study, searcher
        self._over = False

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        if not self._over:
            said = self._tick()
            self._over = said != "go on"
            self._searcher.leaving |= said == "stop"
            if said == "expire":
                self._study.expire()
        return self._over

    def __getstate__(self) -> dict[str, Any]:
        return {}


def search(  # noqa: PLR0913 - a study's whole context, as run.py has it
    spec: TuneSpec,
    *,
    space: Space,
    journal: Journal,
    directory: Path,
    folder: Path,
    key_file: Path,
    limit: int,
    parallel: int,
    address: str | None,
    warm: Sequence[Trial],
    clock: Clock,
    told: Callable[[Trial], None],
    begun: Callable[[Mapping[int, Trial]], None],
    tick: Callable[[], str],
) -> None:
    """All trials, by Tune; `begun` is given the study's trials before the first."""
    study = Study(
        spec,
        sampler=samplers.of(spec, space, parallel=parallel, warm=warm),
        rule=schedulers.NoRule(),
        journal=journal,
        folder=folder,
        limit=limit,
        told=told,
    )
    begun(study.trials)
    left = max(0, limit - sum(trial.ended for trial in study.trials.values()))
    if not left:
        return
    searcher = StudySearcher(study)
    asked: dict[str, Any] = {"search_alg": searcher, "num_samples": left}
    if spec.scheduler.kind in _STEADY:
        asked["max_concurrent_trials"] = parallel
    more: dict[str, Any] = {}
    callbacks: list[tune.Callback] = []
    if spec.scheduler.kind in _ALL_AT_ONCE:
        jobs = list(iter(study.next, None))
        configs = [_config(job, folder=str(folder) if spec.scheduler.kind == "pbt" else None) for job in jobs]
        asked = {"num_samples": 1}
        callbacks.append(_Heard(searcher, jobs=jobs))
        more = {"param_space": {"job": tune.grid_search(configs)}}
    with cluster.joined(parallel * (1 + pool.inner(spec)), name=pool.subject(spec), address=address) as cpus:
        trainable = tune.with_parameters(TrialTrainable, spec=spec, clock=clock, key_file=key_file)
        tuner = tune.Tuner(
            tune.with_resources(trainable, {"cpu": _share(spec, parallel=parallel, least=cpus)}),
            tune_config=tune.TuneConfig(scheduler=scheduler(spec, space=space), reuse_actors=True, **asked),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(directory),
                verbose=0,
                stop=_Ticks(tick, study=study, searcher=searcher),
                failure_config=tune.FailureConfig(max_failures=2),
                checkpoint_config=tune.CheckpointConfig(num_to_keep=4),
                callbacks=callbacks,
            ),
            **more,
        )
        with (directory / "tune.log").open("a", encoding="utf-8") as log, contextlib.redirect_stdout(log):
            _aside(tuner.fit)  # Tune prints tables, whatever its verbosity: stdout is the document's
    shutil.rmtree(directory / "tune", ignore_errors=True)


def scheduler(spec: TuneSpec, *, space: Space) -> Any:
    """The scheduler of Tune that a spec names, or the one that a user's function gives."""
    own, reports = spec.scheduler, spec.reports
    judged = {"metric": METRIC, "mode": "max"}
    if ":" in own.kind:
        return trials.load(own.kind)(**judged, max_t=reports)
    if own.kind == "asha":
        return rays.ASHAScheduler(
            time_attr="training_iteration",
            max_t=reports + 1,
            grace_period=own.grace,
            reduction_factor=own.eta,
            **judged,
        )
    if own.kind == "hyperband":
        return rays.HyperBandScheduler(
            time_attr="training_iteration",
            max_t=reports,
            reduction_factor=own.eta,
            stop_last_trials=False,  # they end by themselves, with an evaluation
            **judged,
        )
    if own.kind == "median":
        return rays.MedianStoppingRule(
            time_attr="training_iteration", grace_period=own.grace, min_samples_required=own.startup, **judged
        )
    if own.kind == "pbt":
        return rays.PopulationBasedTraining(
            time_attr="training_iteration",
            perturbation_interval=own.interval,
            quantile_fraction=own.quantile,
            resample_probability=own.resample,
            hyperparam_mutations={
                "job": {"parameters": {name: domain_of(each) for name, each in space.domains.items()}}
            },
            custom_explore_fn=functools.partial(_kept, space=space),
            **judged,
        )
    return rays.FIFOScheduler()


def domain_of(domain: Domain) -> Any:
    """A domain as Tune has it."""
    if isinstance(domain, Choice):
        return tune.choice(list(domain.listed))
    if isinstance(domain, Int):
        if domain.log:
            return tune.lograndint(domain.low, domain.high + 1)
        return (
            tune.qrandint(domain.low, domain.high, domain.step)
            if domain.step > 1
            else tune.randint(domain.low, domain.high + 1)
        )
    assert isinstance(domain, Float)
    if domain.step is not None:
        return tune.quniform(domain.low, domain.high, domain.step)
    return tune.loguniform(domain.low, domain.high) if domain.log else tune.uniform(domain.low, domain.high)


def _share(spec: TuneSpec, *, parallel: int, least: float) -> float:
    """CPUs of a trial. Paused trials count as running for Tune's own limit: here the CPUs are what limits."""
    if spec.scheduler.kind in _STEADY:
        return least
    total = float(ray.cluster_resources().get("CPU", 1.0))  # type: ignore[no-untyped-call]
    return max(least, int(100 * total / parallel) / 100)


def _kept(config: dict[str, Any], *, space: Space) -> dict[str, Any]:
    """Tune moves a parameter by a fifth, out of its range too: it is kept in."""
    told = config["job"]
    parameters = {name: space.domains[name].kept(value) for name, value in told["parameters"].items()}
    return {**config, "job": {**told, "parameters": parameters}}


def _config(job: Job, *, folder: str | None) -> dict[str, Any]:
    directory = job.directory if folder is None else None
    told = {"trial": job.number, "parameters": job.parameters, "again": job.again and folder is None}
    return {**told, "directory": directory, "folder": folder}


def _aside(work: Callable[[], Any]) -> None:
    """In a thread of its own: in the main thread Tune would take SIGINT for itself, and a stop means checkpoint first."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again below
            raised.append(error)

    thread = threading.Thread(target=run, name="rlaas-tune")
    thread.start()
    while thread.is_alive():
        thread.join(timeout=0.5)
    if raised:
        raise raised[0]


def _outcome(result: Mapping[str, Any]) -> Outcome:
    told = _said(result)
    return Outcome(
        kind=told.get("kind", "report"),
        step=told.get("step", 0),
        metrics=told.get("metrics", {}),
        seeds=told.get("seeds", []),
        seconds=told.get("seconds", 0.0),
    )


def _said(result: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(result["outcome"]) if result.get("outcome") else {}
    return found


def _early(outcome: Outcome) -> Outcome:
    return Outcome(kind="stopped", step=outcome.step, metrics=outcome.metrics, seconds=outcome.seconds)
