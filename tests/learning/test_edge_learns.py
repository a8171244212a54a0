"""Edge placement is learnt: the tiny instance, whose optimum is exact (1.6887 a step), by PPO under the mask and by a table."""

from pathlib import Path

import numpy as np
import pytest

from rlaas_ray.envs.catalogue import EDGE_TINY
from rlaas_ray.envs.edge import tiny
from rlaas_ray.specs.train import EvaluateDuring, TrainSpec
from rlaas_ray.testing.training import train
from rlaas_ray.train import ledger
from rlaas_ray.train.seam import Build
from rlaas_ray.train.tabular import q_learning
from rlaas_ray.train.worlds import of

pytestmark = [pytest.mark.learning, pytest.mark.slow]
STEPS = 60
RANDOM = 4.2528


def test_ppo_under_the_mask_comes_close_to_the_optimum(tmp_path: Path) -> None:
    spec = TrainSpec(
        env=EDGE_TINY,
        num_env_runners=0,
        total_timesteps=120_000,
        serving="greedy",
        evaluate=EvaluateDuring(episodes=128),
    )
    result, _ = train(spec, tmp_path)
    assert result["env_failures"] == 0
    assert -result["evaluation"]["return_mean"] / STEPS <= 1.85


def test_a_table_over_the_exact_states_beats_the_best_autoscaler(tmp_path: Path) -> None:
    spec = TrainSpec(
        env=EDGE_TINY,
        algorithm="q_learning",
        env_config={"observation": "index"},
        num_env_runners=0,
        total_timesteps=250_000,
        gamma=0.95,
        learning_rate=0.5,
        learning_rate_final=0.02,
    )
    worlds = of(spec)
    plan = q_learning.resolve(spec, worlds)
    trainer = q_learning.FAMILY.trainer(
        Build(spec=spec, plan=plan, worlds=worlds, directory=tmp_path, slice_s=0.0, actor_cpus=1.0)
    )
    while not ledger.finished(trainer.ledger, plan=plan):
        trainer.train()
    allowed = tiny.chain().allowed
    greedy = np.where(allowed, trainer.learning.table, -np.inf).argmax(axis=1)
    cost = -tiny.expected(np.eye(tiny.ACTIONS)[greedy]) / STEPS
    best, _ = tiny.optimum()
    assert -best / STEPS < cost <= 2.15 < 2.19 < RANDOM  # 2.19: kube_hpa at its best target
