"""Any family's parts live in RLlib's Algorithm, EnvRunner and Learner as they do in one process."""

from pathlib import Path

import numpy as np
import pytest
import ray

from rlaas_ray import errors
from rlaas_ray.specs.train import TrainSpec
from rlaas_ray.train import cluster, hosts, ppo, runner
from rlaas_ray.train.memory import family as memory
from rlaas_ray.train.rllib import hosting
from rlaas_ray.train.seam import Build

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning"),  # ray.data, by LearnerGroup
]


@pytest.fixture(scope="module", autouse=True)
def _ray():
    _, plan = runner.resolve(TrainSpec(env="CartPole-v1", num_env_runners=2))
    with cluster.connected(plan, address=None):
        yield
    assert not ray.is_initialized()


def given(tmp_path: Path, **fields) -> Build:
    spec = TrainSpec(**{"env": "CartPole-v1", "batch_size": 256, **fields})
    worlds, plan = runner.resolve(spec)
    return Build(spec=spec, plan=plan, worlds=worlds, directory=tmp_path, slice_s=0.0, actor_cpus=0.5)


def test_one_runner_gives_the_parameters_of_one_process(tmp_path: Path) -> None:
    hosted = hosting.build(ppo.PARTS, given(tmp_path, num_env_runners=1))
    alone = hosts.InProcess(ppo.PARTS, given(tmp_path, num_env_runners=0))
    try:
        for _ in range(3):
            hosted.train()
            alone.train()
        assert hosted.ledger.steps == alone.ledger.steps > 0
        for name, array in alone.state().items():
            np.testing.assert_array_equal(hosted.state()[name], array)
        timed = {"sample_share"}
        assert {k: v for k, v in hosted.stats.items() if k not in timed} == {
            k: v for k, v in alone.stats.items() if k not in timed
        }
        assert hosted.policies().keys() == {""}
    finally:
        hosted.stop()
        alone.stop()


def test_a_learner_in_its_own_actor_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    first = hosting.build(ppo.PARTS, given(tmp_path, num_env_runners=1, num_learners=1))
    try:
        for _ in range(2):
            first.train()
        state, ledger = first.state(), first.ledger
    finally:
        first.stop()
    second = hosting.build(ppo.PARTS, given(tmp_path, num_env_runners=1, num_learners=1, seed=9))
    try:
        second.load_state(state, ledger=ledger)
        np.testing.assert_array_equal(second.loop.parameters, state["parameters"])
        second.train()
        assert second.state()["steps"][1] == state["steps"][1] + 1
    finally:
        second.stop()


def test_two_learners_are_said_not_to_be_built(tmp_path: Path) -> None:
    with pytest.raises(errors.NotBuilt, match="2 learners"):
        hosting.build(ppo.PARTS, given(tmp_path, num_env_runners=1, num_learners=2))


def test_sequences_of_a_memory_travel_from_a_runner_as_in_one_process(tmp_path: Path) -> None:
    net = {"memory": "gru", "hidden": (16,), "memory_size": 16, "memory_steps": 8}
    hosted = hosting.build(memory.PARTS, given(tmp_path, num_env_runners=1, network=net))
    alone = hosts.InProcess(memory.PARTS, given(tmp_path, num_env_runners=0, network=net))
    try:
        for _ in range(3):
            hosted.train()
            alone.train()
        for name, array in alone.state().items():
            np.testing.assert_array_equal(hosted.state()[name], array)
        assert hosted.policies()[""].network.state_size == 16
    finally:
        hosted.stop()
        alone.stop()
