"""One conditioned policy reaches the front of Deep Sea Treasure; the point that serves is chosen and kept with the version."""

import threading
from pathlib import Path

import numpy as np
import pytest
from deep_sea import CONVEX

from rlaas_ray.evaluation import policy_front
from rlaas_ray.policies import bundle
from rlaas_ray.settings import SystemClock
from rlaas_ray.specs.runs import Run
from rlaas_ray.specs.train import TrainSpec
from rlaas_ray.testing.reporter import TwinReporter
from rlaas_ray.train import runner

pytestmark = [pytest.mark.learning, pytest.mark.slow]

WHOLE = 401.8  # hypervolume of the known front at (0, -25)


def test_dqn_under_drawn_weights_reaches_the_convex_front(tmp_path: Path) -> None:
    spec = TrainSpec(
        env=CONVEX,
        algorithm="dqn",
        preference="conditioned",
        seed=0,
        total_timesteps=300_000,
        num_env_runners=0,
        num_envs_per_runner=32,
        batch_size=64,
        learning_rate=1e-3,
        gamma=0.995,
        network={"hidden": (64, 64), "activation": "relu"},
        options={"n_step": 5, "epsilon_fraction": 0.5, "updates_per_step": 0.05, "buffer_size": 50_000},
        checkpoint_every_s=1e6,
    )
    run = Run(
        id="train-sea",
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
    result = runner.execute(
        spec,
        run_id=run.id,
        attempt=1,
        reporter=TwinReporter(run),
        clock=SystemClock(),
        directory=tmp_path,
        stop=threading.Event(),
        report_every_s=1e6,
    )
    front = result["evaluation"]["front"]
    weights = np.array([row["weights"] for row in front["preferences"]])
    means = np.array([row["mean"] for row in front["preferences"]])
    reached = policy_front.hypervolume(means, reference=np.array([0.0, -25.0]))
    assert result["steps"] <= 301_000
    assert reached >= 0.95 * WHOLE  # 97.1 to 98.9 % in five seeds
    assert np.corrcoef(weights[:, 0], means[:, 0])[0, 1] >= 0.9  # 0.96 to 0.97 in five seeds
    policy = bundle.load(Path(result["bundle"]), engine="numpy")
    assert policy.preference is not None
    chosen = next(row for row in front["preferences"] if row["chosen"])
    assert chosen["on_front"]
    np.testing.assert_allclose(policy.preference.default, chosen["weights"])
