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

LONG = {"problem": "zdt1", "algorithm": "nsga2", "population_size": 20, "checkpoint_every": 5}
LONG |= {"stagnation": False, "generations": 1_000_000}


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

    def told(run_id: str) -> str:
        return " ".join(api.get(f"/api/v1/runs/{run_id}/logs").json()["lines"])

    made = [api.post("/api/v1/optimization", json={**LONG, "seed": seed}).json()["id"] for seed in range(3)]
    saved = [api.home / "runs" / one / "checkpoints" for one in made]
    wait(lambda: all(list(folder.glob("*.npz")) for folder in saved))
    (host,) = hosts(api.home)
    assert Inbox(api.home / "hosts" / "0").names() == {f"{one}.1" for one in made}
    end(host)
    wait(lambda: all("taken up at generation" in told(one) for one in made))
    api.post(f"/api/v1/optimization/{made[2]}/stop")
    wait(lambda: run(made[2])["state"] == "stopped")
    before = [run(one)["progress"]["steps"] for one in made[:2]]
    wait(lambda: all(run(one)["progress"]["steps"] > was for one, was in zip(made[:2], before, strict=True)))
    for one in made[:2]:
        api.post(f"/api/v1/optimization/{one}/stop")
    wait(lambda: all(run(one)["state"] == "stopped" for one in made))
    found = [run(one) for one in made]
    assert [one["attempt"] for one in found] == [1, 1, 1]
    assert all(one["result"]["front"] for one in found)
    wait(lambda: not Inbox(api.home / "hosts" / "0").names())
