"""`fast: off`: RLlib's own path honours the spec, counts true returns, resumes from arrays, and exports its modules exactly."""

import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import ray
import torch
from ray.rllib.core import DEFAULT_MODULE_ID

from rlaas_ray import settings
from rlaas_ray.policies import bundle
from rlaas_ray.policies.engines.numpy_engine import NumpyEngine
from rlaas_ray.specs.train import EvaluateDuring, TrainSpec
from rlaas_ray.train import cluster, families, runner
from rlaas_ray.train.rllib import onray
from rlaas_ray.train.seam import Build

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # RLlib's, about itself
    pytest.mark.filterwarnings("ignore::UserWarning"),  # Gymnasium's, about vector envs that RLlib makes
]
ENVS = str(Path(__file__).parents[1] / "train_envs")
if ENVS not in sys.path:
    sys.path.insert(0, ENVS)

CASES = {
    "ppo, discrete": {"env": "CartPole-v1", "batch_size": 128, "minibatch_size": 64},
    "ppo, choices side by side": {"env": "counting:Locks", "batch_size": 128, "minibatch_size": 64},
    "ppo, box": {"env": "Pendulum-v1", "batch_size": 128, "minibatch_size": 64, "log_std_initial": -0.5},
    "dqn": {"env": "CartPole-v1", "algorithm": "dqn"},
    "dqn, dueling": {"env": "CartPole-v1", "algorithm": "dqn", "options": {"dueling": True, "prioritised": True}},
    "dqn, dueling, one layer": {
        "env": "CartPole-v1",
        "algorithm": "dqn",
        "options": {"dueling": True},
        "network": {"hidden": [16]},
    },
    "dqn, atoms": {"env": "CartPole-v1", "algorithm": "dqn", "options": {"atoms": 11, "v_max": 100.0, "n_step": 3}},
    "sac, box": {"env": "Pendulum-v1", "algorithm": "sac"},
    "sac, discrete": {"env": "CartPole-v1", "algorithm": "sac"},
}


@pytest.fixture(scope="module", autouse=True)
def _ray():
    _, plan = runner.resolve(TrainSpec(env="CartPole-v1", fast="off", num_env_runners=2))
    with cluster.connected(plan, address=None):
        yield
    assert not ray.is_initialized()


def spec_of(**fields) -> TrainSpec:
    base = {"fast": "off", "num_env_runners": 0, "total_timesteps": 2_000}
    if fields.get("algorithm", "ppo") != "ppo":
        base["options"] = {"learning_starts": 32, "updates_per_step": 0.05}
    return TrainSpec(**{**base, **fields, "options": {**base.get("options", {}), **fields.get("options", {})}})


def built(tmp_path: Path, spec: TrainSpec):
    worlds, plan = runner.resolve(spec)
    given = Build(
        spec=spec,
        plan=plan,
        worlds=worlds,
        directory=tmp_path,
        slice_s=0.0,
        actor_cpus=1.0,
        ray=onray.OnRllib(),
    )
    return families.of(spec).trainer(given)


@pytest.mark.parametrize("case", CASES)
def test_an_exported_network_is_rllibs_module_and_a_checkpoint_goes_on_where_it_was(tmp_path: Path, case: str) -> None:
    spec = spec_of(**CASES[case])
    made = built(tmp_path, spec)
    try:
        while made.ledger.steps < 150:
            made.train()
        assert made.stats, "it learnt"
        trained = made.policies()[""]
        module = made.algorithm.get_module(DEFAULT_MODULE_ID)
        width = module.observation_space.shape[0]
        observations = np.random.default_rng(0).normal(0, 0.5, (64, width)).astype(np.float32)
        seen = normalised(made, observations)
        with torch.no_grad():
            batch = {"obs": torch.from_numpy(seen)}
            if spec.algorithm == "dqn":
                wanted = module.compute_q_values(batch)["qf_preds"].numpy()
            else:
                wanted = module.forward_inference(batch)["action_dist_inputs"].numpy()
        np.testing.assert_allclose(NumpyEngine(trained.network).distribution(observations), wanted, atol=2e-5)
        state = made.state()
        steps, rate = made.ledger.steps, made.stats.get("learning_rate")
    finally:
        made.stop()
    other = built(tmp_path, spec)
    try:
        other.load_state(state, ledger=made.ledger)
        again = other.state()
        assert again.keys() == state.keys()
        for name, value in state.items():
            np.testing.assert_array_equal(again[name], value, err_msg=name)
        other.train()
        assert other.ledger.steps > steps
        if rate is not None and "learning_rate" in other.stats:
            assert other.stats["learning_rate"] <= rate  # the schedule goes on, it does not start anew
    finally:
        other.stop()


def normalised(made, observations):
    pipeline = made.algorithm.env_runner._env_to_module
    for piece in pipeline.connectors:
        if type(piece).__name__ == "MeanStdFilter":
            stats = piece._filters[None].running_stats
            stats = stats[0] if isinstance(stats, list | tuple) else stats
            moved = (observations - stats.mean) / (stats.std + 1e-8)
            return np.clip(moved, -10, 10).astype(np.float32)
    return observations


@pytest.mark.parametrize("runners", [0, 2])
def test_returns_are_those_of_whole_episodes_and_steps_are_the_envs_own(tmp_path: Path, runners: int) -> None:
    made = built(tmp_path, spec_of(env="counting:Counting", num_env_runners=runners, batch_size=64, minibatch_size=32))
    try:
        for _ in range(3):
            made.train()
        ledger = made.ledger
        assert ledger.episode_return_mean == 6.0
        assert ledger.episode_length_mean == 3.0
        assert 3 * ledger.episodes <= ledger.steps < 3 * ledger.episodes + 3 * 32
        assert ledger.cpu_s > 0
        assert ledger.iteration == 3
    finally:
        made.stop()


def test_a_whole_run_gives_a_bundle_and_says_which_path_it_took(tmp_path: Path) -> None:
    class Reporter:
        def beat(self, progress):
            return "running"

        def event(self, kind, data):
            return None

        def metrics(self, rows):
            return None

        def register(self, path, *, name, evaluation):
            return {"name": name}

    spec = spec_of(env="counting:Remember", batch_size=256, minibatch_size=128, total_timesteps=512).model_copy(
        update={"evaluate": EvaluateDuring(episodes=2)}
    )
    result = runner.execute(
        spec,
        run_id="train-stock",
        attempt=1,
        reporter=Reporter(),
        clock=settings.SystemClock(),
        directory=tmp_path,
        stop=threading.Event(),
        ray_address=ray.get_runtime_context().gcs_address,
    )
    assert result["state"] == "succeeded"
    assert result["path"] == "stock"
    policy = bundle.load(Path(result["bundle"]))
    observation = {"colour": 1, "noise": np.zeros(2, dtype=np.float32)}
    assert 0 <= int(np.asarray(policy.act(observation)).reshape(-1)[0]) < 3
