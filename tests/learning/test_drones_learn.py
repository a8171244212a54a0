"""A drone learns to arrive: it earns what only deliveries pay (hovering and chance earn less than -10); ten fly by its policy.

It costs no more than the reference, whose card has 780 steps in zones in 100 episodes.
"""

import importlib
from pathlib import Path

import pytest

from rlaas_ray.envs import scoring
from rlaas_ray.specs.train import EvaluateDuring, TrainSpec
from rlaas_ray.testing.training import train

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
    result, _ = train(spec, tmp_path)
    assert result["evaluation"]["return_mean"] >= 30  # five deliveries pay about 60, two of them 30
    of_reference = scoring.reference(spec.env)["modes"]["balanced"]["policies"]["pd_field"]["costs"]
    assert (
        result["evaluation"]["costs"]["geofence"] <= of_reference[1] * 1_500
    )  # a share of the steps, here of an episode's
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "examples")
    fleet = importlib.import_module("fleet_from_one").main([result["bundle"], "--episodes", "1"])
    assert fleet.score >= 40  # chance is 0, the field of forces 100
