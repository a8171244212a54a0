"""IMPALA and APPO learn, in one process and under a lag that is known: CartPole to a true 475, masked and numeric actions too."""

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rlaas_ray import settings
from rlaas_ray.policies import bundle
from rlaas_ray.specs.runs import Run
from rlaas_ray.specs.train import EvaluateDuring, TrainSpec
from rlaas_ray.testing.reporter import TwinReporter
from rlaas_ray.train import ledger, runner
from rlaas_ray.train.asynchronous import impala, learning
from rlaas_ray.train.asynchronous.flow import Arrival, Flow
from rlaas_ray.train.seam import Build

pytestmark = [pytest.mark.learning, pytest.mark.slow]


def train(spec: TrainSpec, directory: Path):
    reporter = TwinReporter(
        Run(
            id="train-learning",
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
    )
    return runner.execute(
        spec,
        run_id="train-learning",
        attempt=1,
        reporter=reporter,
        clock=settings.SystemClock(),
        directory=directory,
        stop=threading.Event(),
    )


def a_spec(algorithm: str, **more) -> TrainSpec:
    return TrainSpec(
        **{
            "env": "CartPole-v1",
            "algorithm": algorithm,
            "num_env_runners": 0,
            "checkpoint_every_s": 10,
            "evaluate": EvaluateDuring(episodes=32),
            **more,
        }
    )


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("algorithm", ["impala", "appo"])
def test_cartpole_is_balanced(tmp_path: Path, algorithm: str, seed: int) -> None:
    result = train(a_spec(algorithm, seed=seed, total_timesteps=150_000, stop_at_return=475), tmp_path)
    assert result["episode_return_mean"] >= 475
    assert result["evaluation"]["return_mean"] >= 450
    policy = bundle.load(Path(result["bundle"]))
    assert policy.act(np.array([0.0, 0.0, 0.15, 1.0], dtype=np.float32)) == 1  # it falls to the right: push right


@pytest.mark.parametrize(("env", "bar", "steps"), [("counting:Locks", 3.2, 20_000), ("counting:Reach", -4.0, 40_000)])
def test_a_users_env_is_learnt(tmp_path: Path, env: str, bar: float, steps: int) -> None:
    serving = {"serving": "greedy"} if env == "counting:Reach" else {}
    result = train(a_spec("appo", env=env, seed=1, total_timesteps=steps, **serving), tmp_path)
    assert result["evaluation"]["return_mean"] >= bar


class Late:
    """flow.Runners over one collector whose fragments are always `lag` updates old."""

    def __init__(self, given: Build, *, lag: int) -> None:
        self._collector = impala.PARTS.collector(given.plan, given.worlds, index=0)
        self._asked, self._lag = [], lag

    def fill(self, request, *, version, each) -> None:
        while len(self._asked) <= self._lag:
            self._asked.append((replace(request, parameters=request.parameters.copy()), version))

    def arrived(self, *, timeout_s: float) -> Arrival:
        request, version = self._asked.pop(0)
        return Arrival(fragment=self._collector.sample(request), version=version)

    def stop(self) -> None:
        self._collector.close()


# Two runners with two requests each have a lag of 3 updates.
@pytest.mark.parametrize("algorithm", ["impala", "appo"])
def test_it_learns_from_what_a_policy_did_eight_updates_ago(tmp_path: Path, algorithm: str) -> None:
    lag = 8
    # As with one env runner, whose fragments come late.
    spec = a_spec(algorithm, num_env_runners=1, total_timesteps=150_000, stop_at_return=400)
    worlds, plan = runner.resolve(spec)
    given = Build(spec=spec, plan=plan, worlds=worlds, directory=tmp_path, slice_s=1.0, actor_cpus=1.0)
    made = Flow(given, learning=learning.VtraceLearning(plan, worlds), runners=Late(given, lag=lag))
    while not ledger.finished(made.ledger, plan=plan):
        made.train()
    assert made.stats["staleness_mean"] == lag
    assert made.ledger.episode_return_mean >= 400
    made.stop()
