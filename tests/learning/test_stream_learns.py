"""PPO scales WordCount at least as well as DS2 with catch-up, on worlds that training never saw."""

import numpy as np
import pytest

from rlaas_ray.envs import registry, scoring
from rlaas_ray.policies import bundle, spaces
from rlaas_ray.specs.train import TrainSpec
from rlaas_ray.testing.training import train

pytestmark = [pytest.mark.learning, pytest.mark.slow]
ENV = "rlaas/StreamParallelism-wordcount-v1"
CONFIG = {"action": "scale"}
SETTINGS = {
    "total_timesteps": 300_000,
    "num_env_runners": 0,
    "num_envs_per_runner": 64,
    "batch_size": 4096,
    "minibatch_size": 512,
    "epochs": 6,
    "learning_rate": 2e-3,
    "gamma": 0.95,
    "entropy_coefficient": 0.01,
}


def test_ppo_earns_what_ds2_with_catch_up_earns(tmp_path):
    spec = TrainSpec(env=ENV, env_config=CONFIG, seed=0, **SETTINGS)
    result, _ = train(spec, tmp_path)
    policy = bundle.load(tmp_path / result["bundle"])
    _, action_space = registry.spaces(ENV, config=CONFIG)

    def play():
        def act(observations, rng):
            best = policy.head.mode(policy.distribution(policy.encode(observations)))
            return spaces.actions(action_space, best.astype(np.float64))

        return act

    card = scoring.reference(ENV)["modes"]["balanced"]
    returns, _ = scoring.episode_returns(
        ENV, play, mode="balanced", seeds=card["seeds"], episodes=card["episodes"], config=CONFIG
    )
    assert returns.mean() >= card["policies"]["ds2_catchup"]["mean"]
