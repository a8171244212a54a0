"""The command line without a server: the same API in the process, and attempts too."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

RLAAS = [sys.executable, "-m", "rlaas_ray.cli"]


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("local") / "home"


@pytest.fixture
def environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RLAAS_", "RAY_"))}
    return {**kept, "RLAAS_HOME": str(home), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def rlaas(home: Path, environment):
    def run(*arguments: str, code: int = 0) -> dict:
        done = subprocess.run(
            [*RLAAS, *arguments, "--json"],
            check=False,
            capture_output=True,
            text=True,
            env=environment,
            cwd=home.parent,
            timeout=110,
        )
        assert done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout)

    return run


@pytest.mark.slow
def test_an_endpoint_its_policy_and_who_made_them_without_a_server(rlaas) -> None:
    made = rlaas("serve", "cart", "baseline:CartPole-v1/random", "--set", "reward.high=500")
    assert made["spec"]["reward"]["high"] == 500
    assert rlaas("endpoints", "show", "cart")["epoch"] == made["epoch"]
    assert [item["name"] for item in rlaas("models", "list")["items"]] == ["baseline-CartPole-v1-random"]
    assert rlaas("audit", "verify")["ok"] is True
    assert "endpoints" in rlaas("audit", "show")["items"][0]["action"]


@pytest.mark.slow
@pytest.mark.ray
def test_a_training_stopped_by_ctrl_c_says_how_to_resume_and_resumes(rlaas, home, environment) -> None:
    command = [*RLAAS, "train", "--env", "CartPole-v1", "--steps", "4000000", "--name", "cart", "--json"]
    quick = ["--set", "num_env_runners=0", "--set", "checkpoint_every_s=0", "--set", "evaluate.episodes=4"]
    process = subprocess.Popen(
        [*command, *quick], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=home.parent
    )
    until = time.monotonic() + 60
    while not list(home.glob("runs/*/checkpoints/*")) and time.monotonic() < until and process.poll() is None:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=40)
    assert process.returncode == 130, err
    problem = json.loads(out)
    run_id = next(word for word in problem["detail"].split() if word.startswith("train-"))
    assert f"rlaas runs resume {run_id}" in problem["cure"]
    shown = rlaas("runs", "show", run_id)
    assert (shown["state"], shown["attempt"]) == ("stopped", 1)
    assert Path(shown["checkpoint_uri"]).exists()
