"""Costs are kept under their limits at the closed-form optimum; masked actions are never taken, the best allowed one is found."""

import math
import threading
from pathlib import Path

import numpy as np
import pytest

from rlaas_ray import settings
from rlaas_ray.policies import bundle
from rlaas_ray.specs.runs import Run
from rlaas_ray.specs.train import EvaluateDuring, TrainSpec
from rlaas_ray.testing.reporter import TwinReporter
from rlaas_ray.train import runner

pytestmark = [pytest.mark.learning, pytest.mark.slow]


def train(spec: TrainSpec, directory: Path):
    run = Run(
        id="train-limits",
        kind="train",
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
    reporter = TwinReporter(run)
    result = runner.execute(
        spec,
        run_id=run.id,
        attempt=1,
        reporter=reporter,
        clock=settings.SystemClock(),
        directory=directory,
        stop=threading.Event(),
    )
    return result, reporter


@pytest.mark.parametrize("limit", [0.9, 3.6])
def test_a_cost_stays_at_its_limit_and_the_return_is_the_best_under_it(tmp_path: Path, limit: float) -> None:
    spec = TrainSpec(
        env="counting:Spend",
        algorithm="ppo_lagrangian",
        num_env_runners=0,
        total_timesteps=60_000,
        serving="greedy",
        log_std_initial=-1.0,
        options={"cost_limits": [limit], "multiplier_learning_rate": 0.05},
        evaluate=EvaluateDuring(episodes=16),
    )
    result, reporter = train(spec, tmp_path)
    found = result["evaluation"]
    # unconstrained the return is 10 at a cost of 10
    assert found["costs"]["cost"] <= 1.1 * limit
    assert found["return_mean"] >= 0.9 * math.sqrt(10 * limit)
    assert reporter.rows[-1]["multiplier/0"] > 0


@pytest.mark.parametrize("seed", range(5))
def test_masked_actions_are_never_taken_and_the_best_allowed_is_found(tmp_path: Path, seed: int) -> None:
    spec = TrainSpec(
        env="counting:Guarded",
        seed=seed,
        num_env_runners=0,
        total_timesteps=40_000,
        gamma=0.0,
        serving="greedy",
        evaluate=EvaluateDuring(episodes=64),
    )
    result, _ = train(spec, tmp_path)
    assert result["env_failures"] == 0
    # chance among allowed ones earns 3.3; the best action that ignores the mask is allowed half the time
    assert result["evaluation"]["return_mean"] >= 9.0
    policy = bundle.load(Path(result["bundle"]))
    worth = np.linspace(0, 1, 6).astype(np.float32)
    for mask in ([1, 1, 0, 0, 0, 0], [1, 0, 0, 1, 0, 0]):
        told = {"action_mask": np.array(mask, dtype=np.int8), "observations": worth}
        assert int(policy.act(told)) == int(np.flatnonzero(mask)[-1])
