"""A search that was killed goes on: kill -9 of the real command, resume, and the same front as one that nobody disturbed."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlaas_ray.optimize import search
from rlaas_ray.optimize import state as states
from rlaas_ray.settings import SystemClock
from rlaas_ray.specs.optimize import OptimizeSpec

RLAAS = [sys.executable, "-m", "rlaas_ray.cli"]
SPEC = {"problem": "5g", "problem_config": {"n_prb": 24}, "generations": 300, "population_size": 40, "seed": 3}
# What tells when and where, not what was found.
PASSING = {"seconds", "summary"}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RLAAS_", "RAY_"))}
    return {**kept, "RLAAS_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}


def test_kill_9_and_resume_give_the_front_of_an_undisturbed_search_bit_for_bit(tmp_path: Path, environment) -> None:
    home, spec = tmp_path / "home", tmp_path / "spec.json"
    spec.write_text(json.dumps({**SPEC, "checkpoint_every": 1}))
    process = subprocess.Popen([*RLAAS, "optimize", str(spec), "--json"], env=environment, stdout=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while not list(home.glob("runs/*/checkpoints/*.npz")) and time.monotonic() < until:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (folder,) = home.glob("runs/*")
    reached = [int(path.stem.rpartition("-")[2]) for path in (folder / "checkpoints").glob("*.npz")]
    assert 0 < max(reached) < 300

    with sqlite3.connect(home / "rlaas.db") as database:  # 30 s later
        database.execute("update runs set lease_until_us = 1 where id = ?", (folder.name,))
    done = subprocess.run(
        [*RLAAS, "runs", "resume", folder.name, "--json"],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
        timeout=200,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    resumed = json.loads(done.stdout)
    assert (resumed["state"], resumed["attempt"]) == ("succeeded", 2)

    whole = json.loads(json.dumps(search.run(OptimizeSpec(**SPEC), clock=SystemClock())))
    for name in whole.keys() - PASSING:
        assert resumed["result"][name] == whole[name], name
    points = states.points(Path(resumed["checkpoint_uri"]).read_bytes(), variables=whole["variables_digest"])
    assert len(points[0]) > 100
