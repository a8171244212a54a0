"""`rlaas tune` without a server: Ctrl-C and wrong calls; and a real study in a process that is killed with -9."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

RLAAS = [sys.executable, "-m", "rlaas_ray.cli"]
STUDIES = Path(__file__).parents[1] / "unit" / "tune"
BRANIN = ["--function", "studies:lasting", "--space", "x=-5..10", "--space", "y=0..15", "--objective", "value"]
STUDY = ["tune", *BRANIN, "--minimise", "--trials", "40", "--parallel", "1", "--seed", "5"]

pytestmark = pytest.mark.slow


class Home:
    """One home and the commands that run on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RLAAS_", "RAY_"))}
        self.environment = {**kept, "RLAAS_HOME": str(folder), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(STUDIES)}

    def start(self, *arguments: str) -> subprocess.Popen:
        command = [*RLAAS, *arguments, "--json"]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.environment, cwd=STUDIES
        )

    def run(self, *arguments: str, code: int = 0) -> dict:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=110)
        assert process.returncode == code, f"{process.returncode}\n{out}\n{err}"
        return json.loads(out)

    def journal(self) -> list[dict]:
        found = list(self.folder.glob("runs/tune-*/study.jsonl"))
        return [json.loads(line) for line in found[0].read_text().splitlines()] if found else []

    def told(self) -> list[dict]:
        return [line for line in self.journal() if line["kind"] == "told"]


def until(condition, *, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def lines(folder: Path, kind: str) -> list[dict]:
    path = folder / "study.jsonl"
    whole = path.read_text().rpartition("\n")[0].splitlines() if path.exists() else []
    return [found for line in whole if (found := json.loads(line))["kind"] == kind]


def test_a_study_killed_with_9_again_and_again_is_the_one_that_was_not(tmp_path: Path) -> None:
    def study(folder: Path) -> subprocess.Popen:
        command = [sys.executable, str(STUDIES / "one_study.py"), str(folder)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=STUDIES)

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    wanted = json.loads(study(whole).communicate(timeout=100)[0])
    for least in (5, 17, 31):
        with study(killed) as process:
            until(lambda least=least: len(lines(killed, "told")) >= least)
            process.kill()
        before = lines(killed, "told")
        assert len(before) < 40
    found = json.loads(study(killed).communicate(timeout=100)[0])
    told = lines(killed, "told")
    assert told[: len(before)] == before
    assert sorted(line["trial"] for line in told) == list(range(40))
    assert lines(killed, "asked") == lines(whole, "asked")
    assert (found["trial"], found["values"], found["parameters"]) == (
        wanted["trial"],
        wanted["values"],
        wanted["parameters"],
    )


def test_ctrl_c_stops_a_study_and_says_how_to_go_on(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    process = home.start(*STUDY)
    until(lambda: len(home.told()) >= 3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    problem = json.loads(out)
    run_id = next(word for word in problem["detail"].split() if word.startswith("tune-"))
    assert f"rlaas runs resume {run_id}" in problem["cure"]
    assert home.run("runs", "show", run_id)["state"] == "stopped"
    assert home.run("runs", "resume", run_id)["result"]["trials"] == 40


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--env", "CartPole-v1", "--space", "learning_rat=0.1..1"], "learning_rate"),
        (["--env", "CartPole-v1", "--space", "learning_rate"], "NAME=LOW..HIGH"),
        (["--env", "CartPole-v1", "--space", "learning_rate=0.1..1:lin"], ":log"),
        (
            ["--env", "CartPole-v1", "--scheduler", "asha", "--set", "objective=evaluation.return_mean"],
            "scheduler.metric",
        ),
        (["--space", "gamma=0.9..1"], "`train` or `function`"),
    ],
)
def test_a_wrong_call_is_refused_before_anything_is_started(tmp_path: Path, arguments, words) -> None:
    problem = Home(tmp_path / "home").run("tune", *arguments, code=2)
    assert words in f"{problem['detail']} {problem['cure']}"
    assert not (tmp_path / "home" / "runs").exists()
