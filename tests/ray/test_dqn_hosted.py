"""DQN in RLlib's Algorithm, EnvRunner and Learner: the same parameters as in one process, and its memory comes back."""

from pathlib import Path

import numpy as np
import pytest

from rlaas_ray.specs.train import TrainSpec
from rlaas_ray.train import cluster, hosts, runner
from rlaas_ray.train.dqn import family
from rlaas_ray.train.rllib import hosting
from rlaas_ray.train.seam import Build

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning"),  # ray.data, by LearnerGroup
]


def given(directory: Path, *, runners: int) -> Build:
    options = {
        "learning_starts": 64,
        "buffer_size": 2_000,
        "buffer_checkpoint_every": 1,
        "prioritised": True,
        "n_step": 2,
    }
    spec = TrainSpec(env="CartPole-v1", algorithm="dqn", num_env_runners=runners, options=options)
    worlds, plan = runner.resolve(spec)
    return Build(spec=spec, plan=plan, worlds=worlds, directory=directory, slice_s=0.0, actor_cpus=0.5)


def test_one_runner_gives_the_parameters_of_one_process_and_the_memory_comes_back(tmp_path: Path) -> None:
    _, plan = runner.resolve(given(tmp_path, runners=1).spec)
    with cluster.connected(plan, address=None):
        hosted = hosting.build(family.PARTS, given(tmp_path, runners=1))
        alone = hosts.InProcess(family.PARTS, given(tmp_path, runners=0))
        again = hosting.build(family.PARTS, given(tmp_path, runners=1))
        try:
            for _ in range(5):
                hosted.train()
                alone.train()
            assert hosted.ledger.steps == alone.ledger.steps > 64
            for name, array in alone.state().items():
                np.testing.assert_array_equal(hosted.state()[name], array)
            hosted.save_buffer(tmp_path / "buffer")
            assert not again.load_buffer(tmp_path / "none")
            assert again.load_buffer(tmp_path / "buffer")
            again.load_state(hosted.state(), ledger=hosted.ledger)
            again.train()  # learns at once: the memory is there
            assert again.state()["steps"][1] > hosted.state()["steps"][1]
        finally:
            for one in (hosted, alone, again):
                one.stop()
