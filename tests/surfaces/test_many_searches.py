"""Many searches through the API as `rlaas up` starts it: one host has them all, and a host that is killed costs none of them."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest

from rlaas_ray.jobs import processes
from rlaas_ray.jobs.inbox import Inbox

LONG = {"problem": "zdt1", "algorithm": "nsga2", "population_size": 20, "stagnation": False, "checkpoint_every": 5}


@pytest.fixture
def api(tmp_path):
    home = tmp_path / "home"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    own = {**os.environ, "RLAAS_HOME": str(home), "OMP_NUM_THREADS": "1"}
    command = ["uvicorn", "--factory", "rlaas_ray.wiring:api", "--port", str(port), "--no-access-log"]
    child = subprocess.Popen([sys.executable, "-m", *command], env=own, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    wait(lambda: answers(url))
    headers = {"Authorization": f"Bearer {(home / 'admin-key').read_text()}"}
    with httpx.Client(base_url=url, headers=headers, timeout=30) as client:
        client.home = home
        yield client
    child.terminate()
    child.wait(timeout=20)
    for pid in hosts(home):
        end(pid)


def answers(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{url}/health").status_code == 200
    return False


def wait(what, *, seconds: float = 100) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it never came to be"
        time.sleep(0.05)


def hosts(home: pathlib.Path) -> list[int]:
    return [pid for pid in processes.every() if f"rlaas_ray.cli.host {home}" in processes.command_line(pid)]


def end(pid: int) -> None:
    began = processes.start_time(pid)
    if began is not None:
        processes.send(pid, began, number=signal.SIGKILL)
        processes.wait(pid, began, timeout_s=10)


@pytest.mark.slow
def test_a_killed_host_costs_no_search_and_a_stop_ends_one_alone(api) -> None:
    def run(run_id: str) -> dict:
        return api.get(f"/api/v1/runs/{run_id}").json()

    made = [
        api.post("/api/v1/optimization", json={**LONG, "generations": count, "seed": count}).json()["id"]
        for count in (2500, 2501, 1_000_000)
    ]
    saved = [api.home / "runs" / one / "checkpoints" for one in made]
    wait(lambda: all(list(folder.glob("*.npz")) for folder in saved))
    (host,) = hosts(api.home)
    assert Inbox(api.home / "hosts" / "0").names() == {f"{one}.1" for one in made}
    end(host)
    wait(lambda: run(made[2])["progress"]["steps"] > 0 and hosts(api.home))
    api.post(f"/api/v1/optimization/{made[2]}/stop")
    wait(lambda: all(run(one)["state"] in {"succeeded", "failed", "stopped"} for one in made))
    found = [run(one) for one in made]
    assert [(one["state"], one["attempt"]) for one in found] == [("succeeded", 1), ("succeeded", 1), ("stopped", 1)]
    assert [one["result"]["generations"] for one in found[:2]] == [2500, 2501]
    assert found[2]["result"]["front"]
    logs = [" ".join(api.get(f"/api/v1/runs/{one}/logs").json()["lines"]) for one in made]
    assert all("taken up at generation" in log for log in logs)
    assert not Inbox(api.home / "hosts" / "0").names()
