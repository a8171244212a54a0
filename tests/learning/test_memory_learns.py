"""A task that only a memory solves: the cue of the first step is to be named eight steps later. Without one nobody does."""

import threading
from pathlib import Path

import pytest

from rlaas_ray import settings
from rlaas_ray.policies import bundle
from rlaas_ray.specs.runs import Run
from rlaas_ray.specs.train import EvaluateDuring, TrainSpec
from rlaas_ray.testing.reporter import TwinReporter
from rlaas_ray.train import runner

pytestmark = [pytest.mark.learning, pytest.mark.slow]

BAR = 0.9  # of at most 1; whoever does not remember earns 0 on average
ALLOWED = 30_000


def train(memory: str, directory: Path):
    spec = TrainSpec(
        env="recalling:Recall",
        num_env_runners=0,
        total_timesteps=ALLOWED,
        stop_at_return=0.97,
        network={"memory": memory, "hidden": (32,), "memory_size": 32, "memory_steps": 16},
        evaluate=EvaluateDuring(episodes=128),
        serving="greedy",
    )
    run = Run(
        id="train-memory",
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
    return runner.execute(
        spec,
        run_id=run.id,
        attempt=1,
        reporter=TwinReporter(run),
        clock=settings.SystemClock(),
        directory=directory,
        stop=threading.Event(),
    )


@pytest.mark.parametrize("memory", ["lstm", "gru", "attention"])
def test_a_memory_recalls_the_cue_up_to_its_bundle(tmp_path: Path, memory: str) -> None:
    result = train(memory, tmp_path)
    assert result["evaluation"]["return_mean"] >= BAR
    assert result["steps"] < ALLOWED
    policy = bundle.load(Path(result["bundle"]))
    for cue in (-1.0, 1.0):
        policy.reset("somebody")
        for step in range(9):
            action = policy.act([cue if step == 0 else 0.0, float(step == 8), 0.3], unit="somebody")
        assert action == (cue > 0)


def test_without_a_memory_the_cue_is_lost(tmp_path: Path) -> None:
    result = train("none", tmp_path)
    assert result["evaluation"]["return_mean"] < 0.5
    assert result["steps"] >= ALLOWED
