"""A drone learns to arrive: it earns what only deliveries pay (hovering and chance earn less than -10); ten fly by its policy."""

import importlib
import threading
from pathlib import Path

import pytest

from rlaas_ray import settings
from rlaas_ray.specs.runs import Run
from rlaas_ray.specs.train import EvaluateDuring, TrainSpec
from rlaas_ray.testing.reporter import TwinReporter
from rlaas_ray.train import runner

pytestmark = [pytest.mark.learning, pytest.mark.slow]


def test_a_drone_delivers_and_so_do_ten_by_its_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = TrainSpec(
        env="rlaas/DroneDelivery-v1",
        num_env_runners=0,
        total_timesteps=700_000,
        gamma=0.98,
        learning_rate=2e-3,
        evaluate=EvaluateDuring(episodes=24),
    )
    run = Run(
        id="train-drone",
        kind="train",
        name=None,
        spec=spec.to_json(),
        spec_digest=spec.digest(),
        seed=spec.seed,
        state="running",
        epoch=1,
        attempt=1,
        created_us=0,
        place="here",
    )
    result = runner.execute(
        spec,
        run_id=run.id,
        attempt=1,
        reporter=TwinReporter(run),
        clock=settings.SystemClock(),
        directory=tmp_path,
        stop=threading.Event(),
    )
    assert result["evaluation"]["return_mean"] >= 30  # five deliveries pay about 60, two of them 30
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "examples")
    fleet = importlib.import_module("fleet_from_one").main([result["bundle"], "--episodes", "1"])
    assert fleet.score >= 40  # chance is 0, the field of forces 100
