"""One attempt of a study: journal, sampler, hands, the loop, the analysis, and the winner's bundle as a version.

Called by wiring for a run of kind `tune`, by benchmarks and tests. Reports through a seams.Reporter; claiming and finishing the
attempt are the caller's. Without a second slot there is no Ray.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlaas_ray.errors import InvalidInput, WorkFailed
from rlaas_ray.specs.runs import Progress
from rlaas_ray.specs.seams import Clock, Reporter
from rlaas_ray.specs.tune import POPULATION, TRIALS, TuneSpec
from rlaas_ray.tune import journal as journals
from rlaas_ray.tune import population, ranking, samplers, schedulers, spaces, study
from rlaas_ray.tune.journal import Journal, Trial
from rlaas_ray.tune.spaces import Space
from rlaas_ray.tune.study import Hands
from rlaas_ray.tune.trials import Hand

TELL_EVERY_S = 1.0
TRIAL_FOLDER, KEY = "trials", "checkpoint.key"


@dataclass(slots=True, kw_only=True, eq=False)
class _Run:
    spec: TuneSpec
    run_id: str
    reporter: Reporter
    clock: Clock
    directory: Path
    stop: threading.Event
    limit: int
    started_s: float
    before: int = 0  # trials that earlier attempts have ended
    told_s: float = float("-inf")
    news: dict[int, Trial] = field(default_factory=dict)
    trials: Mapping[int, Trial] = field(default_factory=dict)
    stopping: bool = False
    expired: bool = False


def execute(
    spec: TuneSpec,
    *,
    run_id: str,
    reporter: Reporter,
    clock: Clock,
    directory: Path,
    stop: threading.Event,
    ray_address: str | None = None,
) -> dict[str, Any]:
    """Search; gives the result: `state`, the best trial and its version, the front, and where the tables and plots lie.

    `directory` is the run's folder; a journal that lies in it is gone on from. Raises Conflict when that searched another space.
    """
    space = spaces.of(spec)
    run = _Run(
        spec=spec,
        run_id=run_id,
        reporter=reporter,
        clock=clock,
        directory=directory,
        stop=stop,
        limit=trials_of(spec, space=space),
        started_s=clock.monotonic_s(),
    )
    _key(directory / KEY)
    with Journal(directory / journals.FILE, digest=journals.digest(spec)) as journal:
        before = journals.trials(journal.records)
        run.before = sum(trial.ended for trial in before.values())
        if before:
            reporter.event("resumed", {"trials": len(before), "ended": run.before})
        parallel = min(spec.parallel or cpus(), run.limit)
        if spec.on_tune:
            from rlaas_ray.tune import raytune  # noqa: PLC0415 - Ray takes seconds to import

            raytune.search(
                spec,
                space=space,
                journal=journal,
                directory=directory,
                folder=directory / TRIAL_FOLDER,
                key_file=directory / KEY,
                limit=run.limit,
                parallel=parallel,
                address=ray_address,
                warm=_warm(run, journal=journal, space=space),
                clock=clock,
                told=lambda trial: _told(run, trial),
                begun=lambda trials: setattr(run, "trials", trials),
                tick=lambda: _tick(run),
            )
        else:
            source = _source(run, space=space, journal=journal, parallel=parallel)
            run.trials = source.trials
            with _hands(run, parallel=parallel, address=ray_address) as hands:
                study.drive(source, hands, tick=lambda: _tick(run))
    _tell(run)
    return _result(run, space=space)


def trials_of(spec: TuneSpec, *, space: Space) -> int:
    """How many trials: as the spec says; else the whole grid, a population, or twenty."""
    if spec.search == "grid":
        points = sum(1 for _ in space.all())
        return points if spec.trials is None else min(points, spec.trials)
    return spec.trials or (POPULATION if spec.scheduler.kind == "pbt" else TRIALS)


def cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _source(run: _Run, *, space: Space, journal: Journal, parallel: int) -> study.Study | population.Population:
    if run.spec.scheduler.kind == "pbt":
        return population.Population(
            run.spec,
            space=space,
            journal=journal,
            folder=run.directory / TRIAL_FOLDER,
            size=run.limit,
            told=lambda trial: _told(run, trial),
        )
    warm = _warm(run, journal=journal, space=space)
    return study.Study(
        run.spec,
        sampler=samplers.of(run.spec, space, parallel=parallel, warm=warm),
        rule=schedulers.of(run.spec.scheduler, reports=run.spec.reports),
        journal=journal,
        folder=run.directory / TRIAL_FOLDER,
        limit=run.limit,
        told=lambda trial: _told(run, trial),
    )


@contextlib.contextmanager
def _hands(run: _Run, *, parallel: int, address: str | None) -> Iterator[Hands]:
    key_file = run.directory / KEY
    if parallel == 1:
        yield study.InProcess(Hand(run.spec, clock=run.clock, key_file=key_file, stop=run.stop))
        return
    from rlaas_ray.tune import pool  # noqa: PLC0415 - Ray takes seconds to import

    with pool.opened(run.spec, count=parallel, address=address, clock=run.clock, key_file=key_file) as hands:
        yield hands


def _warm(run: _Run, *, journal: Journal, space: Space) -> list[Trial]:
    """Trials of earlier studies. They are copied into the journal at the first attempt, so that each attempt has the same."""
    kept = [record.data for record in journal.records if record.kind == "warm"]
    if not any(record.kind == "asked" for record in journal.records) and not kept:
        for reference in run.spec.warm_start:
            known = journals.earlier(reference, runs=run.directory.parent)
            fits = [trial for trial in known if space.holds(trial.parameters) and _comparable(run.spec, trial)]
            run.reporter.event("warm_start", {"study": reference, "trials": len(known), "taken": len(fits)})
            if not fits:
                raise InvalidInput(
                    f"warm_start {reference}",
                    given=f"{len(known)} completed trials",
                    expected="some that are points of this space, with as many objectives",
                    cure="Give the space the same names and ranges.",
                )
            kept += [{"parameters": t.parameters, "values": t.values, "violations": t.violations} for t in fits]
        for data in kept:
            journal.add("warm", **data)
    return [
        Trial(number=number, parameters=data["parameters"], state="completed", values=data["values"])
        for number, data in enumerate(kept)
    ]


def _comparable(spec: TuneSpec, trial: Trial) -> bool:
    return trial.values is not None and len(trial.values) == len(spec.objectives)


def _told(run: _Run, trial: Trial) -> None:
    run.news[trial.number] = trial
    if trial.ended:  # its checkpoints (a replay buffer may be in them) are of no more use
        for folder in (run.directory / TRIAL_FOLDER / f"{trial.number:05d}").glob("seed-*/checkpoints"):
            shutil.rmtree(folder, ignore_errors=True)


def _tick(run: _Run) -> str:
    now_s = run.clock.monotonic_s()
    run.expired |= run.spec.time_limit_s is not None and now_s - run.started_s >= run.spec.time_limit_s
    if now_s - run.told_s >= TELL_EVERY_S:
        _tell(run)
    if run.stop.is_set() or run.stopping:
        run.stopping = True
        return "stop"
    return "expire" if run.expired else "go on"


def _tell(run: _Run) -> None:
    """Progress, and what has changed since the last time."""
    run.told_s = run.clock.monotonic_s()
    news, run.news = run.news, {}
    for trial in news.values():
        run.reporter.event("trial", row(trial, spec=run.spec))
    ended = [trial for trial in run.trials.values() if trial.ended]
    values = [trial for trial in news.values() if trial.state == "completed" and trial.values is not None]
    best = ranking.best(ended, maximise=maximise(run.spec))
    if values and best is not None and best.values is not None:
        told = {"value": values[-1].values[0] if values[-1].values else None, "best": best.values[0]}
        run.reporter.metrics([{"step": len(ended), "time_us": run.clock.now_us(), **told}])
    run.stopping |= run.reporter.beat(_progress(run, ended=ended, best=best)) == "stopping"


def _progress(run: _Run, *, ended: list[Trial], best: Trial | None) -> Progress:
    elapsed_s = run.clock.monotonic_s() - run.started_s
    fraction = min(1.0, len(ended) / run.limit)
    new = len(ended) - run.before
    eta_s = elapsed_s * (run.limit - len(ended)) / new if new > 0 else None
    if run.spec.time_limit_s is not None:
        left_s = max(0.0, run.spec.time_limit_s - elapsed_s)
        eta_s = left_s if eta_s is None else min(eta_s, left_s)
        fraction = max(fraction, min(1.0, elapsed_s / run.spec.time_limit_s))
    counts = {state: sum(trial.state == state for trial in ended) for state in ("stopped", "failed")}
    parts = [
        f"{count} {words}"
        for count, words in ((counts["stopped"], "stopped early"), (counts["failed"], "failed"))
        if count
    ]
    value = None
    if best is not None and best.values is not None:
        value = best.values[0]
        parts.append(f"best {value:.6g} (trial {best.number})")
    return Progress(
        fraction=fraction,
        steps=len(ended),
        steps_total=run.limit,
        steps_per_s=new / elapsed_s if elapsed_s > 0 and new > 0 else None,
        eta_s=eta_s,
        episode_return_mean=value if run.spec.objectives[0].metric == "episode_return_mean" else None,
        message=", ".join(parts) or None,
    )


def maximise(spec: TuneSpec) -> list[bool]:
    """Of each objective, whether larger is better."""
    return [objective.maximise for objective in spec.objectives]


def row(trial: Trial, *, spec: TuneSpec) -> dict[str, Any]:
    """A trial as doors show it."""
    shown = trial.values
    if shown is None and trial.reports:
        value = trial.reports[-1]["metrics"].get(spec.judged_by)
        shown = None if value is None else [value]
    ends = ranking.interval(trial)
    return {
        "trial": trial.number,
        "state": trial.state,
        "parameters": trial.parameters,
        "step": trial.step,
        "steps_total": spec.reports if spec.train is not None else None,
        "values": shown,
        "ci95": None if ends is None else list(ends),
        "feasible": trial.feasible if trial.violations else None,
        "seconds": trial.seconds,
        "error": None if trial.error is None else trial.error.get("detail"),
    }


def _result(run: _Run, *, space: Space) -> dict[str, Any]:
    """Tables, plots, the winner; `state` is `stopped` where the run was told to end before its trials were."""
    from rlaas_ray.tune import analysis  # noqa: PLC0415 - plots and tables take a second to import

    spec, every = run.spec, list(run.trials.values())
    ended = [trial for trial in every if trial.ended]
    result: dict[str, Any] = {
        "state": "stopped" if run.stopping else "succeeded",
        "trials": len(ended),
        **{state: sum(trial.state == state for trial in ended) for state in ("completed", "stopped", "failed")},
        "objectives": [objective.to_json() for objective in spec.objectives],
        "journal": str(run.directory / journals.FILE),
        "checkpoint_uri": str(run.directory / journals.FILE),
        "wall_s": run.clock.monotonic_s() - run.started_s,
    }
    result["stopped_early"] = result.pop("stopped")
    if run.stopping:
        return result
    best = ranking.best(ended, maximise=maximise(spec))
    if best is None:
        errors = [trial.error.get("detail") for trial in ended if trial.error]
        raise WorkFailed(
            f"none of {len(ended)} trials gave a feasible result",
            given=errors[-1] if errors else None,
            expected="one completed trial that keeps all constraints",
            cure="Widen the space, the constraints or the time limit; results so far are in the journal.",
        )
    kept = _keep(run, best=best)
    result |= analysis.write(run.directory, spec=spec, space=space, trials=every)
    result["best"] = {**row(best, spec=spec), "metrics": best.metrics}
    if len(spec.objectives) > 1:
        result["front"] = [row(trial, spec=spec) for trial in ranking.front(ended, maximise=maximise(spec))]
    versions = [
        dict(run.reporter.register(Path(told["path"]), name=told["name"], evaluation=told["evaluation"]))
        for told in kept
    ]
    if versions:
        result |= {"bundle": kept[0]["path"], "evaluation": kept[0]["evaluation"], "version": versions[0]}
        result["best"]["seed"] = kept[0]["seed"]
    if len(versions) > 1:
        result["versions"] = versions
    return result


def _keep(run: _Run, *, best: Trial) -> list[dict[str, Any]]:
    """Bundles of the best trial's best seed (by its first objective), moved beside the journal; the trials' folders go.

    Of several objectives each member of the front keeps its bundle, too, in `front/`.
    """
    if run.spec.train is None:
        return []
    kept = _moved(run, trial=best, folder=run.directory)
    if len(run.spec.objectives) > 1:
        for trial in ranking.front(list(run.trials.values()), maximise=maximise(run.spec)):
            _moved(run, trial=trial, folder=run.directory / "front" / f"trial-{trial.number:05d}")
    shutil.rmtree(run.directory / TRIAL_FOLDER, ignore_errors=True)
    return kept


def _moved(run: _Run, *, trial: Trial, folder: Path) -> list[dict[str, Any]]:
    """Copies of the bundles that the best seed of a trial left; what is there already was copied before a kill."""
    up = run.spec.objectives[0].maximise
    seeds = [seed for seed in trial.seeds if seed["bundles"]]
    if not seeds:
        return []
    seed = max(seeds, key=lambda s: s["values"][0] if up else -s["values"][0])
    found = []
    for told in seed["bundles"]:
        target = folder / Path(told["path"]).name
        if not target.exists():
            partial = folder / f".{target.name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(told["path"], partial)
            partial.rename(target)
        found.append({**told, "path": str(target), "seed": seed["seed"]})
    return found


def _key(path: Path) -> None:
    """The key that signs the checkpoints of all trials; made before any of them could make one of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_hex(32).encode())
