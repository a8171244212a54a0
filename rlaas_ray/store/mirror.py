"""MLflow, told after our commit and never asked for a fact: runs with their metrics, versions with their aliases.

Built by wiring at the first act of the outbox, in a thread: importing MLflow and making its tables takes seconds. It raises what
MLflow raises; the outbox tries again, and nothing waits for it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from rlaas_ray.specs.arrays import F64
from rlaas_ray.specs.runs import Run
from rlaas_ray.specs.seams import Mirror

_TAG = "rlaas.run"
_SQLITE = "sqlite:///"
_STATUS = {"succeeded": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
_BATCH = 1000  # MLflow's own limit of metrics per call


class MlflowMirror(Mirror):
    """A tracking store and registry at one URI. Both are named: with a tracking URI alone MLflow makes a second database."""

    def __init__(self, uri: str) -> None:
        logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells of each table that it makes
        if uri.startswith(_SQLITE):
            _made(Path(uri.removeprefix(_SQLITE)))
        self._client = MlflowClient(tracking_uri=uri, registry_uri=uri)

    def run(self, run: Run, *, metrics: Mapping[str, F64]) -> None:
        """The run's parameters, tags and metric history; told again, what is there already is kept."""
        known = self._find(run.id)
        mlflow_id = known or self._create(run)
        if known is None:
            params = [Param(name, str(value)[:6000]) for name, value in _flat(run.spec)]
            self._client.log_batch(mlflow_id, params=params[:100])
        for batch in _batches(metrics):
            self._client.log_batch(mlflow_id, metrics=batch)
        self._client.set_terminated(mlflow_id, status=_STATUS.get(run.state, "RUNNING"))

    def version(self, document: Mapping[str, Any]) -> None:
        """The version with its digest; aliases point where ours do. MLflow's own number may differ."""
        name = str(document["name"])
        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        number = self._number(name, digest=str(document["digest"]))
        if number is None:
            tags = {"rlaas.digest": str(document["digest"]), "rlaas.number": str(document["number"])}
            if document.get("run_id"):
                tags[_TAG] = str(document["run_id"])
            number = str(self._client.create_model_version(name, source=str(document["path"]), tags=tags).version)
        for alias in document.get("aliases") or ():
            self._client.set_registered_model_alias(name, alias, number)

    def _find(self, run_id: str) -> str | None:
        experiments = [experiment.experiment_id for experiment in self._client.search_experiments()]
        found = self._client.search_runs(experiments, filter_string=f"tags.`{_TAG}` = '{run_id}'", max_results=1)
        return str(found[0].info.run_id) if found else None

    def _create(self, run: Run) -> str:
        name = f"rlaas/{run.kind}"
        experiment = self._client.get_experiment_by_name(name)
        experiment_id = experiment.experiment_id if experiment else self._client.create_experiment(name)
        tags = {_TAG: run.id, "rlaas.spec_digest": run.spec_digest, "rlaas.seed": str(run.seed)}
        made = self._client.create_run(
            experiment_id, start_time=run.created_us // 1000, tags=tags, run_name=run.name or run.id
        )
        self._client.log_batch(made.info.run_id, tags=[RunTag("rlaas.attempt", str(run.attempt))])
        return str(made.info.run_id)

    def _number(self, name: str, *, digest: str) -> str | None:
        for found in self._client.search_model_versions(f"name = '{name}'"):
            if found.tags.get("rlaas.digest") == digest:
                return str(found.version)
        return None


def _made(path: Path) -> None:
    """The database with all its tables, or none: a command that ends while MLflow makes them would leave half of them."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".mlflow-", dir=path.parent) as folder:
        fresh = Path(folder) / "mlflow.db"
        MlflowClient(tracking_uri=f"{_SQLITE}{fresh}", registry_uri=f"{_SQLITE}{fresh}").search_experiments(
            max_results=1
        )
        with contextlib.suppress(FileExistsError):  # another process was first: its database is the one
            os.link(fresh, path)


def _batches(metrics: Mapping[str, F64]) -> Iterator[list[Metric]]:
    steps, times = metrics.get("step"), metrics.get("time_us")
    if steps is None or times is None:
        return
    values = [
        Metric(name, float(value), int(time_us) // 1000, int(step))
        for name, column in metrics.items()
        if name not in {"step", "time_us"}
        for value, time_us, step in zip(column, times, steps, strict=True)
        if np.isfinite(value)
    ]
    for start in range(0, len(values), _BATCH):
        yield values[start : start + _BATCH]


def _flat(spec: Mapping[str, Any], *, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in spec.items():
        if isinstance(value, Mapping):
            yield from _flat(value, prefix=f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
