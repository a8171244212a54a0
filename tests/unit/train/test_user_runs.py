"""Runs of users' algorithms and of tables from spec to result: stopped, resumed, with a bundle and without one."""

import hashlib
import threading
from pathlib import Path

import numpy as np
import pytest

from rlaas_ray import settings
from rlaas_ray.errors import Interrupted
from rlaas_ray.policies import bundle
from rlaas_ray.specs.runs import Run
from rlaas_ray.specs.train import EvaluateDuring, TrainSpec
from rlaas_ray.testing.reporter import TwinReporter
from rlaas_ray.train import runner


def execute(directory: Path, *, attempt: int = 1, on_progress=None, **fields):
    spec = TrainSpec(**{"env": "counting:Counting", "evaluate": EvaluateDuring(episodes=3), **fields})
    run = Run(
        id="train-user",
        kind="train",
        name=spec.name,
        spec=spec.to_json(),
        spec_digest=spec.digest(),
        seed=spec.seed,
        state="running",
        epoch=1,
        attempt=attempt,
        place="here",
        created_us=0,
    )
    reporter, stop = TwinReporter(run), threading.Event()
    result = runner.execute(
        spec,
        run_id="train-user",
        attempt=attempt,
        reporter=reporter,
        clock=settings.SystemClock(),
        directory=directory,
        stop=stop,
        on_progress=None if on_progress is None else lambda progress: on_progress(progress, stop),
        report_every_s=0.0,
    )
    return result, reporter


@pytest.mark.parametrize("algorithm", ["theirs:Agent", "theirs:Linear", "theirs:Climber"])
def test_a_run_is_stopped_and_goes_on_from_its_checkpoint(tmp_path: Path, algorithm: str) -> None:
    fields = {"algorithm": algorithm, "total_episodes": 24, "batch_size": 8, "num_envs_per_runner": 2}

    def early(progress, stop) -> None:
        if progress.episodes > 4:
            stop.set()

    result, _ = execute(tmp_path, on_progress=early, **fields)
    assert result["state"] == "stopped"
    assert 4 < result["episodes"] < 24
    result, reporter = execute(tmp_path, attempt=2, **fields)
    resumed = [data for kind, data in reporter.events if kind == "resumed"]
    assert resumed[0]["steps"] > 0
    assert result["state"] == "succeeded"
    assert result["episodes"] >= 24
    assert result["evaluation"]["return_mean"] == 6.0


def test_a_run_without_a_bundle_succeeds_and_says_what_is_missing(tmp_path: Path) -> None:
    result, reporter = execute(tmp_path, algorithm="theirs:Agent", total_episodes=30)
    assert (result["state"], result["bundle"], result["version"]) == ("succeeded", None, None)
    assert "policy()" in result["bundle_missing"]
    assert [kind for kind, _ in reporter.events][-1] == "no_bundle"
    assert reporter.versions == []
    for path, digest in result["files"].items():
        assert Path(path).is_relative_to(tmp_path / "agent")
        assert hashlib.sha256(Path(path).read_bytes()).hexdigest() == digest


def test_ctrl_c_in_a_users_train_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    def press(progress, stop) -> None:
        if progress.episodes > 4:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="interrupted"):
        execute(tmp_path, algorithm="theirs:Agent", total_episodes=20, on_progress=press)
    result, _ = execute(tmp_path, attempt=2, algorithm="theirs:Agent", total_episodes=20)
    assert result["episodes"] == 20


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fields", "head"),
    [
        ({"algorithm": "theirs:Linear"}, "categorical"),
        ({"algorithm": "q_learning", "bins": [4], "bin_low": [-0.5], "bin_high": [3.5]}, "q_values"),
        (
            {
                "algorithm": "q_learning",
                "env": "counting:Locks",
                "bins": [2, 3],
                "bin_low": [-0.5, -0.25],
                "bin_high": [1.5, 1.25],
            },
            "multi_categorical",
        ),
        ({"algorithm": "theirs:Linear", "env": "counting:Reach"}, "point"),
    ],
)
def test_a_bundle_is_written_whole_and_verified(tmp_path: Path, fields: dict, head: str) -> None:
    result, reporter = execute(tmp_path, num_env_runners=0, total_timesteps=3_000, **fields)
    manifest = bundle.verify(Path(result["bundle"]))
    assert manifest.head["type"] == head
    assert manifest.serving == "greedy"
    assert result["version"]["name"] == reporter.versions[0]["name"]
    policies = [bundle.load(Path(result["bundle"]), engine=engine) for engine in ("numpy", "onnx", "torch")]
    x = np.random.default_rng(0).uniform(0, 1, size=(64, policies[0].size)).astype(np.float32)
    outputs = [policy.distribution(x) for policy in policies]
    np.testing.assert_allclose(outputs[1], outputs[0], atol=1e-5)
    np.testing.assert_allclose(outputs[2], outputs[0], atol=1e-5)
