"""A drone learns to arrive: it earns what only deliveries pay (hovering and chance earn less than -10)."""

import threading
from pathlib import Path

import pytest

from rlaas_ray import settings
from rlaas_ray.specs.runs import Run
from rlaas_ray.specs.train import EvaluateDuring, TrainSpec
from rlaas_ray.testing.reporter import TwinReporter
from rlaas_ray.train import runner

pytestmark = [pytest.mark.learning, pytest.mark.slow]


def test_a_drone_delivers(tmp_path: Path) -> None:
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
