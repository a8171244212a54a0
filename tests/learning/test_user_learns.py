"""Users' algorithms and networks learn: the example on CartPole, a module of one's own in PPO on a bounded Box; over seeds."""

import sys
from pathlib import Path

import pytest

from rlaas_ray.specs.train import TrainSpec
from rlaas_ray.train import families, ledger
from rlaas_ray.train.seam import Build
from rlaas_ray.train.worlds import of

pytestmark = [pytest.mark.learning, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]


def trained(directory: Path, **fields) -> float:
    spec = TrainSpec(**fields)
    worlds, family = of(spec), families.of(spec)
    plan = family.resolve(spec, worlds)
    trainer = family.trainer(
        Build(spec=spec, plan=plan, worlds=worlds, directory=directory, slice_s=0.0, actor_cpus=1.0)
    )
    while not ledger.finished(trainer.ledger, plan=plan):
        trainer.train()
    trainer.stop()
    return trainer.ledger.episode_return_mean


@pytest.mark.parametrize("seed", [0, 1])
def test_the_example_learns_to_balance(tmp_path: Path, monkeypatch, seed: int) -> None:
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    name = "examples.own_algorithm:ActorCritic"
    # A random policy balances for 22 steps.
    found = trained(
        tmp_path,
        env="CartPole-v1",
        algorithm=name,
        batch_size=128,
        total_timesteps=100_000,
        stop_at_return=150,
        seed=seed,
    )
    assert found >= 150


@pytest.mark.parametrize("seed", [0, 1])
def test_a_network_of_ones_own_learns_in_ppo(tmp_path: Path, seed: int) -> None:
    # A random policy is 1.2 off at each of 8 steps.
    network = {"custom": "theirs:residual"}
    assert trained(tmp_path, env="counting:Reach", network=network, total_timesteps=30_000, seed=seed) >= -4.0
