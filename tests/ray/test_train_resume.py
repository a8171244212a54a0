"""A killed training goes on from its last iteration: kill -9 of a real process, resume; stop and Ctrl-C leave a checkpoint.

In one process and without Ray: what is tested is the run's own state, which is the same on both paths.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rlaas_ray import errors, settings
from rlaas_ray.specs.runs import Run
from rlaas_ray.specs.train import EvaluateDuring, TrainSpec
from rlaas_ray.testing.reporter import TwinReporter
from rlaas_ray.train import checkpoint, hosts, ppo, runner
from rlaas_ray.train.seam import Build

pytestmark = [pytest.mark.ray, pytest.mark.slow]
SPEC = TrainSpec(
    env="CartPole-v1",
    num_env_runners=0,
    total_timesteps=2_000_000,
    checkpoint_every_s=0,
    seed=5,
    evaluate=EvaluateDuring(episodes=4),
)
CHILD = """
import hashlib, json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import test_train_resume as t
from rlaas_ray.train import hosts
log = open(sys.argv[1] + "/iterations.jsonl", "a")
class Told(hosts.InProcess):
    def train(self):
        super().train()
        print(json.dumps(t.fingerprint(self)), file=log, flush=True)
hosts.InProcess = Told
t.execute(t.SPEC, Path(sys.argv[1]))
"""


def fingerprint(trainer) -> dict:
    state, book = trainer.state(), trainer.ledger
    arrays = [
        state["parameters"],
        state["first"],
        state["second"],
        book.observations.mean,
        book.observations.deviations,
    ]
    return {
        "iteration": book.iteration,
        "adam_steps": int(state["steps"][0]),
        "sha256": hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest(),
    }


def execute(spec: TrainSpec, directory: Path, **more):
    run = Run(
        id="train-resume",
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
    arguments = {
        "run_id": run.id,
        "attempt": 1,
        "reporter": TwinReporter(run),
        "clock": settings.SystemClock(),
        "directory": directory,
        "stop": threading.Event(),
        **more,
    }
    return runner.execute(spec, **arguments)


def _killed_after(directory: Path, *, iterations: int) -> list[dict]:
    with (directory / "child.txt").open("wb") as output:
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(directory), str(Path(__file__).parent)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        log, deadline = directory / "iterations.jsonl", time.monotonic() + 60
        while not log.exists() or log.read_text().count("\n") < iterations:
            assert child.poll() is None, (directory / "child.txt").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.005)
        child.send_signal(signal.SIGKILL)
        child.wait()
    return [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")]


def test_kill_9_loses_at_most_one_iteration_and_the_rest_is_identical(tmp_path: Path) -> None:
    told = _killed_after(tmp_path, iterations=23)
    saved = checkpoint.load(tmp_path / runner.CHECKPOINTS, key=(tmp_path / runner.KEY).read_bytes())
    assert told[-1]["iteration"] - saved.ledger.iteration <= 1
    worlds, plan = runner.resolve(SPEC)
    given = Build(spec=SPEC, plan=plan, worlds=worlds, directory=tmp_path, slice_s=0.0, actor_cpus=1.0)
    trainer = hosts.InProcess(ppo.PARTS, given)
    trainer.load_state(saved.state, ledger=saved.ledger)
    assert fingerprint(trainer) in told
    trainer.train()
    assert trainer.ledger.iteration - told[-1]["iteration"] in {0, 1}
    trainer.stop()


def test_a_second_attempt_goes_on_by_itself_and_finishes(tmp_path: Path) -> None:
    told = _killed_after(tmp_path, iterations=5)
    spec = SPEC.model_copy(update={"total_timesteps": told[-1]["iteration"] * 1024 + 5_000})
    result = execute(spec, tmp_path, attempt=2)
    assert result["state"] == "succeeded"
    assert result["iterations"] > told[-1]["iteration"]
    assert result["iterations"] <= told[-1]["iteration"] + 6


def test_a_stop_ends_with_a_checkpoint_that_can_be_resumed(tmp_path: Path) -> None:
    stop = threading.Event()
    result = execute(SPEC, tmp_path, stop=stop, on_progress=lambda progress: stop.set())
    assert result["state"] == "stopped"
    assert "bundle" not in result
    saved = checkpoint.load(Path(result["checkpoint_uri"]), key=(tmp_path / runner.KEY).read_bytes())
    assert saved.ledger.steps == result["steps"] > 0


def test_ctrl_c_saves_and_says_how_to_resume(tmp_path: Path) -> None:
    def interrupt(progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(errors.Interrupted) as caught:
        execute(SPEC, tmp_path, on_progress=interrupt)
    assert "rlaas runs resume train-resume" in caught.value.cure
    assert checkpoint.found(tmp_path / runner.CHECKPOINTS)


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    stop = threading.Event()
    result = execute(SPEC, tmp_path, stop=stop, on_progress=lambda progress: stop.set())
    other = SPEC.model_copy(update={"env": "Acrobot-v1"})
    with pytest.raises(errors.InvalidInput, match="another network"):
        execute(other, tmp_path, attempt=2, checkpoint=result["checkpoint_uri"])


def test_sigterm_leaves_a_checkpoint_with_runners_on_ray_too(tmp_path: Path) -> None:
    """Ray brings a handler of its own, which would exit at once: only a real process with a real Ray can see that."""
    home, out = tmp_path / "home", tmp_path / "out"
    options = ["--set", "num_env_runners=1", "--set", "total_timesteps=50000000"]
    with out.open("w") as log:
        command = [sys.executable, "-m", "rlaas_ray.cli", "train", "--env", "CartPole-v1", *options]
        process = subprocess.Popen(command, env={**os.environ, "RLAAS_HOME": str(home)}, stdout=log, stderr=log)
    deadline_s = time.monotonic() + 60
    while not list(home.glob("runs/*/checkpoints/iteration-*")) and time.monotonic() < deadline_s:
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 75, out.read_text()
    assert "rlaas runs resume" in out.read_text()
    assert list(home.glob("runs/*/checkpoints/iteration-*"))
