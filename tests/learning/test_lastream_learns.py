"""The stream agent learns: a fifth of its default budget beats the threshold rule on the worlds of the card."""

from pathlib import Path

import numpy as np
import pytest

from rlaas_ray.envs import scoring
from rlaas_ray.evaluation import episodes, intervals
from rlaas_ray.specs.train import TrainSpec
from rlaas_ray.train import families, ledger
from rlaas_ray.train.seam import Build
from rlaas_ray.train.worlds import of

pytestmark = [pytest.mark.learning, pytest.mark.slow]


@pytest.mark.parametrize("env", ["rlaas/StreamParallelism-wordcount-v1", "rlaas/StreamParallelism-v1"])
def test_it_beats_the_threshold_rule(tmp_path: Path, env: str) -> None:
    spec = TrainSpec(env=env, algorithm="lastream", seed=3, total_episodes=40)
    worlds = of(spec)
    plan = families.of(spec).resolve(spec, worlds)
    build = Build(spec=spec, plan=plan, worlds=worlds, directory=tmp_path, slice_s=0.0, actor_cpus=1.0)
    trainer = families.of(spec).trainer(build)
    while not ledger.finished(trainer.ledger, plan=plan):
        trainer.train()
    card = scoring.reference(env)["modes"]["balanced"]
    seed, rule = card["seeds"][0], np.array(card["policies"]["threshold"]["returns"][0])
    found = episodes.evaluate(
        trainer.decider(),
        make_vector=lambda envs: worlds.make_flat(envs=envs, seed=seed),
        episodes=len(rule),
        seed=seed,
    )
    trainer.stop()
    assert intervals.t_interval(found.returns - rule).low > 0.0
