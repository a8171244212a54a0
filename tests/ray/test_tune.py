"""Tuning on Ray: the pool and its dead actors, Tune's schedulers over the same trials, resume across executors."""

import os
import signal
import sys
import threading
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import ray

from rlaas_ray import settings
from rlaas_ray.policies import bundle
from rlaas_ray.specs import document
from rlaas_ray.specs.runs import Run
from rlaas_ray.specs.tune import TuneSpec
from rlaas_ray.testing.reporter import TwinReporter
from rlaas_ray.train import cluster
from rlaas_ray.tune import journal, run
from rlaas_ray.tune.journal import FILE

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*:DeprecationWarning"),  # ray.tune, of itself
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # Tune's loggers leave their files open
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
ON_SIGINT = signal.getsignal(signal.SIGINT)  # a test run that was started in the background ignores it
STUDIES = str(Path(__file__).parents[1] / "unit" / "tune")
if STUDIES not in sys.path:
    sys.path.insert(0, STUDIES)
LINE = {"function": "studies:resumed", "space": {"rate": {"low": 0.1, "high": 2.0}}, "objective": "value"}


@pytest.fixture(scope="module", autouse=True)
def _ray():
    before = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = f"{STUDIES}:{before}"
    with cluster.joined(2, name="CartPole-v1", address=None):
        yield
    os.environ["PYTHONPATH"] = before


def execute(directory: Path, **body):
    spec = document.parse(TuneSpec, {"parallel": 2, **body})
    told = Run(
        id="tune-ray",
        kind="tune",
        name=None,
        spec=spec.to_json(),
        spec_digest=spec.digest(),
        seed=spec.seed,
        state="running",
        epoch=1,
        attempt=1,
        place="here",
        created_us=0,
    )
    reporter = TwinReporter(told)
    result = run.execute(
        spec,
        run_id=told.id,
        reporter=reporter,
        clock=settings.SystemClock(),
        directory=directory,
        stop=threading.Event(),
    )
    return result, reporter


def written(directory: Path) -> dict[int, journal.Trial]:
    return journal.trials(journal.read(directory / FILE)[0])


def test_the_pool_trains_and_the_best_policy_is_registered(tmp_path: Path) -> None:
    result, reporter = execute(
        tmp_path,
        train={"env": "CartPole-v1", "total_timesteps": 4000, "evaluate": {"episodes": 4}},
        space={"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}},
        seeds=2,
        trials=4,
        name="tuned",
    )
    assert (result["completed"], result["failed"]) == (4, 0)
    assert [version["name"] for version in reporter.versions] == ["tuned"]
    assert bundle.load(Path(result["bundle"])).act(np.zeros(4, dtype=np.float32)) in {0, 1}
    assert not (tmp_path / "trials").exists()
    table = pq.read_table(result["results"])
    bounds = dict(zip(table.column("trial").to_pylist(), table.column("ci95_low").to_pylist(), strict=True))
    assert bounds[result["best"]["trial"]] == max(bounds.values())
    assert pq.read_table(result["progress"]).num_rows >= 8


def test_an_actor_killed_with_9_costs_no_trial(tmp_path: Path) -> None:
    """`fatal` kills its own process the first time that each trial gets there; what its folder holds is gone on from."""
    result, _ = execute(tmp_path, **{**LINE, "function": "dying:fatal"}, search="random", trials=4)
    assert result["completed"] == 4
    for trial in written(tmp_path).values():
        assert trial.values == [pytest.approx(6 * trial.parameters["rate"])]
        assert (tmp_path / "trials" / f"{trial.number:05d}" / "seed-0" / "died").exists()


def test_one_that_dies_always_is_failed_and_the_others_go_on(tmp_path: Path) -> None:
    body = {**LINE, "function": "dying:deadly", "space": {"rate": {"grid": [1.0, 2.0, 3.0]}}, "search": "grid"}
    result, _ = execute(tmp_path, **body)
    assert (result["completed"], result["failed"]) == (2, 1)
    assert {t.error["reason"] for t in written(tmp_path).values() if t.error} == {"died"}


@pytest.mark.parametrize("kind", ["asha", "hyperband", "pbt", "dying:patient"])
def test_schedulers_of_tune_run_the_same_trials(tmp_path: Path, kind: str) -> None:
    result, _ = execute(
        tmp_path,
        **LINE,
        search="random",
        scheduler={"kind": kind, "grace": 1},
        executor="tune",
        reports=6,
        trials=10,
        seed=3,
    )
    found = written(tmp_path)
    assert len(found) == 10
    assert result["failed"] == 0
    assert all(trial.ended for trial in found.values())
    best = found[result["best"]["trial"]]
    first = [record.data["parameters"]["rate"] for record in journal.read(tmp_path / FILE)[0] if record.kind == "asked"]
    if kind == "pbt":
        assert best.values[0] > 5 * max(first)
        assert all(0.1 <= trial.parameters["rate"] <= 2.0 for trial in found.values())
    else:
        assert best.values == [pytest.approx(6 * max(first))]
    if kind in {"asha", "hyperband"}:
        assert result["stopped_early"] >= 1


def test_a_study_begun_by_tune_goes_on_in_the_pool(tmp_path: Path) -> None:
    execute(tmp_path, **LINE, search="random", executor="tune", trials=3)
    before = {number: trial.values for number, trial in written(tmp_path).items()}
    result, _ = execute(tmp_path, **LINE, search="random", executor="pool", trials=6)
    assert result["completed"] == 6
    after = written(tmp_path)
    assert {number: after[number].values for number in before} == before


def test_ray_is_left_as_it_was() -> None:
    assert ray.is_initialized()
    assert signal.getsignal(signal.SIGINT) is ON_SIGINT
