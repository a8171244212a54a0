"""The API as the process that `rlaas up` starts: light at start, streams as it happens, nothing lost by SIGKILL."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest

LIGHT = """
import asyncio, sys, httpx
from rlaas_ray import wiring
app = wiring.api()
async def main():
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
        assert (await client.get("/health")).json()["status"] == "healthy"
asyncio.run(main())
print(sorted({"ray", "torch", "mlflow", "pandas", "matplotlib", "gymnasium.envs.mujoco"} & set(sys.modules)))
"""


def test_health_is_answered_before_anything_heavy_is_loaded(tmp_path) -> None:
    own = {**os.environ, "RLAAS_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-c", LIGHT], env=own, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == "[]", done.stderr


class Process:
    """uvicorn on the home, on a port of its own."""

    def __init__(self, home) -> None:
        self.home = home
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.start()

    def start(self) -> float:
        own = {**os.environ, "RLAAS_HOME": str(self.home), "OMP_NUM_THREADS": "1"}
        command = ["uvicorn", "--factory", "rlaas_ray.wiring:api", "--port", str(self.port), "--no-access-log"]
        self.child = subprocess.Popen([sys.executable, "-m", *command], env=own, stderr=subprocess.DEVNULL)
        begun = time.monotonic()
        while time.monotonic() - begun < 30:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"http://127.0.0.1:{self.port}/health").status_code == 200:
                    return time.monotonic() - begun
            time.sleep(0.05)
        raise AssertionError("the API does not answer")

    def kill(self) -> None:
        self.child.send_signal(signal.SIGKILL)
        self.child.wait()

    def client(self) -> httpx.Client:
        key = (self.home / "admin-key").read_text()
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.Client(base_url=f"http://127.0.0.1:{self.port}", headers=headers, timeout=30)


@pytest.fixture
def process(tmp_path):
    made = Process(tmp_path / "home")
    yield made
    made.child.terminate()
    made.child.wait(timeout=20)


@pytest.mark.slow
def test_a_run_goes_through_a_process_of_this_machine_and_its_events_stream(process) -> None:
    with process.client() as client:
        spec = {"policy": "baseline:CartPole-v1/random", "env": "CartPole-v1", "episodes": 4}
        run = client.post("/api/v1/evaluations", json=spec).json()
        kinds = []
        with client.stream("GET", f"/api/v1/runs/{run['id']}/events", timeout=90) as stream:
            kinds = [line.removeprefix("event: ") for line in stream.iter_lines() if line.startswith("event: ")]
        assert kinds[-1] == "end"
        found = client.get(f"/api/v1/runs/{run['id']}").json()
        assert found["state"] == "succeeded", found["error"]
        assert found["result"]["episodes"] == 4
        assert 5 < found["result"]["return_mean"] < 60  # a random policy's episodes on CartPole: 22 on average


@pytest.mark.slow
def test_an_event_reaches_a_reader_within_a_second(process) -> None:
    with process.client() as client:
        told = {"kind": "train", "spec": {"env": "CartPole-v1"}, "place": "ray", "place_ref": "by-hand"}
        run = client.post("/api/v1/runs", json=told).json()
        client.post(f"/api/v1/runs/{run['id']}/claim", json={"attempt": 1})
        seen: list[tuple[str, float]] = []

        def read() -> None:
            with process.client() as own, own.stream("GET", f"/api/v1/runs/{run['id']}/events") as stream:
                lines = (line for line in stream.iter_lines() if line.startswith("event: "))
                seen.extend((line.removeprefix("event: "), time.monotonic()) for line in lines)

        reader = threading.Thread(target=read)
        reader.start()
        while not seen:
            time.sleep(0.02)
        event = {"seq": 1, "kind": "note", "time_us": 1, "data": {}}
        begun = time.monotonic()
        client.post(f"/api/v1/runs/{run['id']}/events", json={"attempt": 1, "events": [event]})
        client.post(f"/api/v1/runs/{run['id']}/finish", json={"attempt": 1, "state": "stopped"})
        reader.join(timeout=20)
        assert [kind for kind, _ in seen][-3:] == ["note", "state", "end"]
        assert dict(seen)["note"] - begun < 1.0


@pytest.mark.slow
def test_a_killed_api_comes_back_with_all_that_it_acknowledged(process) -> None:
    with process.client() as client:
        made = client.put("/api/v1/endpoints/cart", json={"champion": "baseline:CartPole-v1/random"}).json()
    process.kill()
    process.start()
    with process.client() as client:
        again = client.get("/api/v1/endpoints/cart").json()
        assert again["table"] == made["table"]
        begun = time.monotonic()
        while not client.get("/health").json()["controller"]:  # the dead owner's lease is taken over at once
            assert time.monotonic() - begun < 8
            time.sleep(0.1)
        assert client.get("/api/v1/audit/verify").json()["ok"]
