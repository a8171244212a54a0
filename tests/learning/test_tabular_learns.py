"""Tables learn: the optimal policy of known models, by value iteration, and CartPole in bins; over seeds."""

from pathlib import Path

import gymnasium
import numpy as np
import pytest

from rlaas_ray.evaluation import episodes
from rlaas_ray.policies import bundle
from rlaas_ray.specs.train import TrainSpec
from rlaas_ray.train import export, ledger
from rlaas_ray.train.seam import Build
from rlaas_ray.train.tabular import q_learning
from rlaas_ray.train.worlds import of

pytestmark = [pytest.mark.learning, pytest.mark.slow]


def trained(tmp_path: Path, **fields):
    spec = TrainSpec(algorithm="q_learning", num_env_runners=0, **fields)
    worlds = of(spec)
    plan = q_learning.resolve(spec, worlds)
    build = Build(spec=spec, plan=plan, worlds=worlds, directory=tmp_path, slice_s=0.0, actor_cpus=1.0)
    trainer = q_learning.FAMILY.trainer(build)
    while not ledger.finished(trainer.ledger, plan=plan):
        trainer.train()
    [policy] = trainer.policies().values()
    contents = export.contents(spec, plan=plan, worlds=worlds, trained=policy, created_us=0)
    return trainer, worlds, bundle.in_memory(contents)


def values(model, gamma: float, policy=None) -> np.ndarray:
    """V of a policy, or V*, of an env whose transitions are known."""
    v = np.zeros(len(model))
    for _ in range(2_000):
        q = [[sum(p * (r + gamma * (not end) * v[s]) for p, s, r, end in model[i][a]) for a in model[i]] for i in model]
        new = np.array([max(row) if policy is None else row[policy[i]] for i, row in enumerate(q)])
        if np.abs(new - v).max() < 1e-10:
            break
        v = new
    return v


CASES = {
    "FrozenLake-v1": ({"is_slippery": False}, {"total_timesteps": 20_000}),
    "slippery": (
        {"is_slippery": True},
        {"total_timesteps": 120_000, "learning_rate_final": 0.005, "epsilon_final": 0.5},
    ),
    "CliffWalking-v1": ({}, {"total_timesteps": 30_000}),
}


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", sorted(CASES))
def test_the_greedy_policy_is_as_good_as_any(tmp_path: Path, name: str, seed: int) -> None:
    config, fields = CASES[name]
    env = "FrozenLake-v1" if name == "slippery" else name
    trainer, _, _ = trained(tmp_path, env=env, env_config=config, gamma=0.95, seed=seed, **fields)
    made = gymnasium.make(env, **config).unwrapped
    policy = trainer.learning.table.argmax(axis=1)
    start = made.initial_state_distrib
    best, reached = (float(start @ values(made.P, 0.95, chosen)) for chosen in (None, policy))
    assert reached >= best - 0.01 * abs(best)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_cartpole_in_bins_is_balanced_by_the_bundle(tmp_path: Path, seed: int) -> None:
    # A random policy balances for 22 steps.
    _, worlds, policy = trained(
        tmp_path,
        env="CartPole-v1",
        bins=[1, 6, 12, 6],
        bin_low=[-1, -1.5, -0.2, -2],
        bin_high=[1, 1.5, 0.2, 2],
        learning_rate=0.3,
        learning_rate_final=0.02,
        epsilon_final=0.0,
        total_timesteps=150_000,
        seed=seed,
    )
    found = episodes.evaluate(policy, make_vector=lambda n: worlds.make_flat(envs=n, seed=5), episodes=50, seed=5)
    assert found.return_mean >= 300
