"""Training learns, in one process: CartPole over seeds, and users' envs of each kind of space, to a bundle that acts the same."""

import threading
from pathlib import Path

import numpy as np
import pytest

from rlaas_ray import settings
from rlaas_ray.envs import registry
from rlaas_ray.policies import bundle
from rlaas_ray.specs.runs import Run
from rlaas_ray.specs.train import EvaluateDuring, TrainSpec
from rlaas_ray.testing.reporter import TwinReporter
from rlaas_ray.train import checkpoint, columns, network, presets, runner

pytestmark = [pytest.mark.learning, pytest.mark.slow]


def a_run(spec: TrainSpec) -> Run:
    return Run(
        id="train-learning",
        kind="train",
        name=spec.name,
        spec=spec.to_json(),
        spec_digest=spec.digest(),
        seed=spec.seed,
        state="running",
        epoch=1,
        attempt=1,
        place="here",
        created_us=0,
    )


def train(spec: TrainSpec, directory: Path):
    reporter = TwinReporter(a_run(spec))
    result = runner.execute(
        spec,
        run_id="train-learning",
        attempt=1,
        reporter=reporter,
        clock=settings.SystemClock(),
        directory=directory,
        stop=threading.Event(),
    )
    return result, reporter


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_cartpole_is_balanced(tmp_path: Path, seed: int) -> None:
    spec = TrainSpec(env="CartPole-v1", seed=seed, num_env_runners=0, total_timesteps=150_000, stop_at_return=475)
    result, _ = train(spec, tmp_path)
    assert result["episode_return_mean"] >= 475
    assert result["evaluation"]["return_mean"] >= 475


CASES = {
    # a random policy gives 5/3; chance plus the noise of sampling leaves 4 of 5 a bar that only learning passes
    "counting:Remember": (20_000, 4.0, {}),
    "counting:Locks": (20_000, 3.2, {}),
    # a random policy is 1.2 off at each of 8 steps
    "counting:Reach": (40_000, -4.0, {"serving": "greedy"}),
}


@pytest.mark.parametrize("env", sorted(CASES))
def test_a_users_env_is_learnt_and_its_bundle_acts_as_the_trained_network(tmp_path: Path, env: str) -> None:
    steps, bar, more = CASES[env]
    spec = TrainSpec(
        env=env, num_env_runners=0, total_timesteps=steps, evaluate=EvaluateDuring(episodes=64), seed=1, **more
    )
    result, reporter = train(spec, tmp_path)
    assert result["evaluation"]["return_mean"] >= bar
    assert result["version"]["name"] == spec.env.replace("counting:", "").lower() + "-ppo"
    _acts_as_trained(spec, directory=tmp_path, path=Path(result["bundle"]))
    assert reporter.rows[-1]["episode_return_mean"] == result["episode_return_mean"]
    assert reporter.progress[-1].fraction == 1.0


def _acts_as_trained(spec: TrainSpec, *, directory: Path, path: Path) -> None:
    worlds, plan = runner.resolve(spec)
    saved = checkpoint.load(directory / runner.CHECKPOINTS, key=(directory / runner.KEY).read_bytes())
    trained = network.Network(saved.state["parameters"], presets.shape_of(plan, worlds))
    mean, scale = columns.scale_of(saved.ledger.observations)
    env = registry.make_vector(spec.env, num_envs=8, seed=99)
    raw, _ = env.reset()
    for engine in ("numpy", "onnx", "torch"):
        policy = bundle.load(path, engine=engine)
        encoded = policy.encode(raw)
        wanted = trained.distribution(columns.normalise(encoded, mean=mean, scale=scale))
        np.testing.assert_allclose(policy.distribution(encoded), wanted, atol=1e-5)
    action = policy.act(_first(raw))
    assert env.single_action_space.contains(np.asarray(action, dtype=env.single_action_space.dtype))
    env.close()


def _first(raw):
    return {key: value[0] for key, value in raw.items()} if isinstance(raw, dict) else raw[0]
