"""Tables of a study through Arrow, a row a trial and a row a report; importance of parameters, and the hypervolume of a front.

Called by run.py when a study ends. Pictures and the report page are drawn by plots.py and report.py.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import moocore
import numpy as np
import optuna
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from rlaas_ray.specs.tune import TuneSpec
from rlaas_ray.tune import plots, ranking, report, samplers
from rlaas_ray.tune.journal import Trial
from rlaas_ray.tune.spaces import Space

RESULTS, PROGRESS = "results.parquet", "progress.parquet"
_FEWEST = 8  # trials, for an importance that says anything


def write(directory: Path, *, spec: TuneSpec, space: Space, trials: Sequence[Trial]) -> dict[str, Any]:
    """Tables, pictures and the page into `directory`; gives what they say and where they lie."""
    pq.write_table(results(trials, spec=spec), directory / RESULTS)
    pq.write_table(progress(trials), directory / PROGRESS)
    shares = importance(trials, spec=spec, space=space)
    found = {"importance": shares, "hypervolume": hypervolume(trials, spec=spec)}
    pictures = plots.draw(directory, spec=spec, space=space, trials=trials, importance=shares)
    page = report.write(directory, spec=spec, trials=trials, found=found, pictures=pictures)
    lies = {"results": RESULTS, "progress": PROGRESS, "report": page.name}
    told = {name: str(directory / file) for name, file in lies.items()}
    return {**{name: value for name, value in found.items() if value is not None}, **told}


def results(trials: Sequence[Trial], *, spec: TuneSpec) -> pa.Table:
    """One row a trial: `trial, state, step, seconds, feasible, bundle`, parameters, objectives with their interval, metrics."""
    return _table([_row(trial, spec=spec) for trial in trials])


def progress(trials: Sequence[Trial]) -> pa.Table:
    """One row a report: `trial, step`, metrics."""
    return _table(
        [{"trial": trial.number, "step": told["step"], **told["metrics"]} for trial in trials for told in trial.reports]
    )


def importance(trials: Sequence[Trial], *, spec: TuneSpec, space: Space) -> dict[str, float] | None:
    """How much each parameter matters for the first objective, by PED-ANOVA (Watanabe et al. 2023); sums to 1.

    None with fewer than 8 completed trials, or where nothing differs. Conditional parameters are left out: they are not in all
    trials.
    """
    done = [trial for trial in trials if trial.state == "completed" and trial.values is not None]
    names = [name for name in space.domains if name not in space.when]
    values = {trial.values[0] for trial in done if trial.values is not None}
    if len(done) < _FEWEST or len(values) < 2 or not names:
        return None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize" if spec.objectives[0].maximise else "minimize")
    for trial in done:
        parameters = {name: value for name, value in trial.parameters.items() if name in names}
        study.add_trial(
            optuna.trial.create_trial(
                value=trial.values[0] if trial.values is not None else math.nan,
                params=samplers.coded(parameters, space=space),
                distributions={name: samplers.distribution(space.domains[name]) for name in parameters},
            )
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(value) for name, value in found.items()}


def hypervolume(trials: Sequence[Trial], *, spec: TuneSpec) -> float | None:
    """Of the front, from the worst value of each objective among completed trials; None with one objective."""
    maximise = [objective.maximise for objective in spec.objectives]
    front = ranking.front(trials, maximise=maximise)
    if len(maximise) < 2 or not front:
        return None
    done = [trial for trial in trials if trial.state == "completed" and trial.values is not None]
    worst = np.max([[-value for value in ranking.signed(trial, maximise=maximise)] for trial in done], axis=0)
    points = np.array([[-value for value in ranking.signed(trial, maximise=maximise)] for trial in front])
    return float(moocore.hypervolume(points, ref=worst))


def _row(trial: Trial, *, spec: TuneSpec) -> dict[str, Any]:
    found: dict[str, Any] = {
        "trial": trial.number,
        "state": trial.state,
        "step": trial.step,
        "seconds": trial.seconds,
        "feasible": trial.feasible if spec.constraints else None,
        "error": None if trial.error is None else trial.error.get("detail"),
    }
    found |= {f"parameter.{name}": _flat(value) for name, value in trial.parameters.items()}
    for objective, value in zip(spec.objectives, trial.values or [], strict=False):
        found[f"objective.{objective.metric}"] = value
    ends = ranking.interval(trial)
    if ends is not None:
        found |= {"ci95_low": ends[0], "ci95_high": ends[1]}
    bundles = [told["path"] for seed in trial.seeds for told in seed["bundles"]]
    return {**found, **trial.metrics, "bundle": bundles[0] if bundles else None}


def _flat(value: Any) -> Any:
    return value if isinstance(value, int | float | str | bool) or value is None else orjson.dumps(value).decode()


def _table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Columns of every name that a row has; a column of mixed kinds is text."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {}
    for name in names:
        values = [row.get(name) for row in rows]
        try:
            columns[name] = pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            columns[name] = pa.array([None if value is None else str(value) for value in values])
    return pa.table(columns)
