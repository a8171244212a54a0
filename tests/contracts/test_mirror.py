"""A mirror hears the same thing twice without making it twice: the twin, and MLflow on a local store."""

import numpy as np
import pytest

from rlaas_ray.specs.runs import Run
from rlaas_ray.testing.mirror import MemoryMirror

RUN = Run(
    id="train-abcdefghij",
    kind="train",
    name="cart",
    spec={"env": "CartPole-v1", "network": {"hidden": [64, 64]}},
    spec_digest="d",
    seed=7,
    state="succeeded",
    epoch=3,
    attempt=1,
    place="here",
    created_us=1_700_000_000_000_000,
)
METRICS = {
    "step": np.array([10.0, 20.0]),
    "time_us": np.array([1.7e15, 1.7e15 + 1]),
    "episode_return_mean": np.array([np.nan, 21.0]),
}
VERSION = {
    "name": "cart",
    "number": 4,
    "digest": "ab" * 32,
    "path": "/bundles/sha256/" + "ab" * 32,
    "run_id": RUN.id,
    "aliases": ["champion"],
}


class OnMlflow:
    """The real mirror, looked at through MLflow's own client."""

    def __init__(self, uri: str) -> None:
        from mlflow import MlflowClient

        from rlaas_ray.store.mirror import MlflowMirror

        self.mirror = MlflowMirror(uri)
        self._client = MlflowClient(tracking_uri=uri, registry_uri=uri)

    def state(self) -> dict:
        experiment = self._client.get_experiment_by_name("rlaas/train")
        (run,) = self._client.search_runs([experiment.experiment_id], "tags.`rlaas.run` = 'train-abcdefghij'")
        history = self._client.get_metric_history(run.info.run_id, "episode_return_mean")
        versions = self._client.search_model_versions("name = 'cart'")
        return {
            "env": run.data.params["env"],
            "returns": sorted({(metric.step, metric.value) for metric in history}),
            "ended": run.info.status == "FINISHED",
            "digests": [version.tags["rlaas.digest"] for version in versions],
            "champion": self._client.get_model_version_by_alias("cart", "champion").tags["rlaas.digest"],
        }


class OnTwin:
    def __init__(self) -> None:
        self.mirror = MemoryMirror()

    def state(self) -> dict:
        ((run, metrics),) = self.mirror.runs.values()
        column = metrics["episode_return_mean"]
        known = np.isfinite(column)
        (version,) = self.mirror.versions.values()
        return {
            "env": run.spec["env"],
            "returns": list(zip(metrics["step"][known].tolist(), column[known].tolist(), strict=True)),
            "ended": run.state == "succeeded",
            "digests": [version["digest"]],
            "champion": version["digest"] if "champion" in version["aliases"] else None,
        }


@pytest.fixture(params=["twin", pytest.param("mlflow", marks=pytest.mark.slow)])
def kept(request, tmp_path, monkeypatch):
    if request.param == "twin":
        return OnTwin()
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("GIT_PYTHON_REFRESH", "quiet")
    monkeypatch.chdir(tmp_path)  # MLflow must leave nothing in the working directory
    return OnMlflow(f"sqlite:///{tmp_path}/store/mlflow.db")


@pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow", "ignore::FutureWarning:mlflow")
def test_what_is_told_twice_is_there_once(kept, tmp_path) -> None:
    for _ in range(2):
        kept.mirror.run(RUN, metrics=METRICS)
        kept.mirror.version(VERSION)
    assert kept.state() == {
        "env": "CartPole-v1",
        "returns": [(20, 21.0)],
        "ended": True,
        "digests": [VERSION["digest"]],
        "champion": VERSION["digest"],
    }
    assert {path.name for path in tmp_path.iterdir()} <= {"store"}
