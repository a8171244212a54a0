"""Agents learn together: to meet, by one shared policy; and to ask and answer in turns, each by its own."""

import threading
from pathlib import Path

import numpy as np
import pytest

from rlaas_ray import settings
from rlaas_ray.policies import bundle
from rlaas_ray.specs.runs import Run
from rlaas_ray.specs.train import EvaluateDuring, TrainSpec
from rlaas_ray.testing.reporter import TwinReporter
from rlaas_ray.train import runner

pytestmark = [pytest.mark.learning, pytest.mark.slow]


def train(spec: TrainSpec, directory: Path):
    run = Run(
        id="train-agents",
        kind="train",
        name=None,
        spec=spec.to_json(),
        spec_digest=spec.digest(),
        seed=spec.seed,
        state="running",
        epoch=1,
        attempt=1,
        place="here",
        created_us=0,
    )
    return runner.execute(
        spec,
        run_id=run.id,
        attempt=1,
        reporter=TwinReporter(run),
        clock=settings.SystemClock(),
        directory=directory,
        stop=threading.Event(),
    )


@pytest.mark.parametrize("seed", range(5))
def test_a_shared_policy_meets(tmp_path: Path, seed: int) -> None:
    spec = TrainSpec(
        env="together:Meeting",
        multi_agent="shared",
        num_env_runners=0,
        total_timesteps=20_000,
        serving="greedy",
        seed=seed,
        evaluate=EvaluateDuring(episodes=16),
    )
    result = train(spec, tmp_path)
    # 16 is perfect; chance earns 4, one agent alone that knows the answer 8
    assert result["evaluation"]["return_mean"] >= 15.5
    assert set(result["evaluation"]["agents"]) == {"left", "right"}
    policy = bundle.load(Path(result["bundle"]))
    assert int(policy.act(np.array([1.0, 0.3, 0.3], dtype=np.float32))) == 1


@pytest.mark.parametrize("seed", range(5))
def test_two_policies_pass_a_word_on_in_turns(tmp_path: Path, seed: int) -> None:
    spec = TrainSpec(
        env="together:Turns",
        multi_agent="separate",
        num_env_runners=0,
        total_timesteps=40_000,
        serving="greedy",
        gamma=0.5,
        seed=seed,
        evaluate=EvaluateDuring(episodes=32),
    )
    result = train(spec, tmp_path)
    assert set(result["policies"]) == {"asker", "answerer"}
    # 12 is perfect; chance earns 1
    assert result["policies"]["asker"]["evaluation"]["return_mean"] >= 11.5
    asker, answerer = (bundle.load(Path(result["policies"][name]["bundle"])) for name in ("asker", "answerer"))
    for key in range(3):
        said = np.zeros(3, dtype=np.float32)
        said[int(asker.act(key))] = 1.0
        assert int(answerer.act(said)) == key
