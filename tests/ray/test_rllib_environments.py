"""Our environments under RLlib's own PPO, single and by agents, without our trainer."""

import warnings

import pytest
import ray
from ray.rllib.algorithms.ppo import PPOConfig

from rlaas_ray.envs import registry
from rlaas_ray.train import cluster
from rlaas_ray.train.rllib import environments

pytestmark = pytest.mark.ray

FLEET = "rlaas_ray.envs.drones.fleet_agents:DroneFleet"


@pytest.fixture(scope="module")
def own_ray():
    with cluster.joined(1, name="test", address=None), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # RLlib's own
        yield
    assert not ray.is_initialized()


def small(config: PPOConfig) -> PPOConfig:
    return (
        config.env_runners(num_env_runners=0, num_envs_per_env_runner=1)
        .training(train_batch_size_per_learner=64, minibatch_size=32, num_epochs=1)
        .learners(num_learners=0)
    )


@pytest.mark.usefixtures("own_ray")
def test_an_id_is_trained_by_stock_ppo() -> None:
    environments.register()
    algorithm = small(PPOConfig().environment(registry.RAN_TINY, env_config={"mode": "energy_saving"})).build_algo()
    try:
        assert algorithm.train()["num_env_steps_sampled_lifetime"] >= 64
    finally:
        algorithm.stop()


@pytest.mark.usefixtures("own_ray")
def test_a_fleet_is_trained_by_stock_ppo_with_a_shared_policy() -> None:
    environments.register()
    config = PPOConfig().environment(environments.AGENTS, env_config={"env": FLEET, "horizon": 20})
    config = small(config.multi_agent(policies={"shared"}, policy_mapping_fn=lambda *_, **__: "shared"))
    algorithm = config.build_algo()
    try:
        told = algorithm.train()
        by_agent = told["env_runners"]["num_agent_steps_sampled_lifetime"]
        assert sorted(by_agent) == sorted(f"drone_{k}" for k in range(10))
        assert min(by_agent.values()) >= 6
    finally:
        algorithm.stop()
