"""SAC in RLlib's Algorithm, EnvRunner and Learner: the same parameters as in one process."""

from pathlib import Path

import numpy as np
import pytest

from rlaas_ray.specs.train import TrainSpec
from rlaas_ray.train import cluster, hosts, runner
from rlaas_ray.train.actor_critic import family
from rlaas_ray.train.rllib import hosting
from rlaas_ray.train.seam import Build

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning"),  # ray.data, by LearnerGroup
]


def given(directory: Path, *, runners: int) -> Build:
    options = {"learning_starts": 32, "buffer_size": 2_000, "prioritised": True, "n_step": 2}
    spec = TrainSpec(env="Pendulum-v1", algorithm="sac", num_env_runners=runners, batch_size=16, options=options)
    worlds, plan = runner.resolve(spec)
    return Build(spec=spec, plan=plan, worlds=worlds, directory=directory, slice_s=0.0, actor_cpus=0.5)


def test_one_runner_gives_the_parameters_of_one_process(tmp_path: Path) -> None:
    hosting_it = given(tmp_path, runners=1)
    with cluster.connected(hosting_it.plan, address=None):
        hosted = hosting.build(family.PARTS, hosting_it)
        alone = hosts.InProcess(family.PARTS, given(tmp_path, runners=0))
        try:
            for _ in range(10):
                hosted.train()
                alone.train()
            assert hosted.ledger.steps == alone.ledger.steps > 64
            assert alone.learning.state()["updates"][0] > 0
            for name, array in alone.state().items():
                np.testing.assert_array_equal(hosted.state()[name], array)
        finally:
            hosted.stop()
            alone.stop()
