"""The runtime of one machine, as a user has it: up, status, deaths of its parts, down; nothing left, nothing foreign touched."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import pytest

from rlaas_ray.cli import down, runtime
from rlaas_ray.jobs import processes

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(170)]


class Machine:
    """A home, its ports, and the commands that a user types."""

    def __init__(self, home: Path, *, port: int) -> None:
        self.home = home
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RLAAS_", "RAY_"))}
        self.environment = {**kept, "RLAAS_HOME": str(home), "OMP_NUM_THREADS": "1"}

    def rlaas(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess:
        done = subprocess.run(
            [sys.executable, "-m", "rlaas_ray.cli", *arguments],
            check=False,
            capture_output=True,
            text=True,
            env=self.environment,
            cwd=self.home,
            timeout=150,
        )
        assert done.returncode == code, f"rlaas {' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def told(self, *arguments: str, code: int = 0) -> dict:
        return json.loads(self.rlaas(*arguments, "--json", code=code).stdout)

    def child(self, name: str):
        return runtime.read(self.home).children[name]

    def decides(self) -> bool:
        body = {"unit": "u", "observation": [0.0, 0.0, 0.0, 0.0]}
        try:
            return httpx.post(
                f"{self.url}/v1/endpoints/cart/decisions", json=body, headers=self.key(), timeout=5
            ).is_success
        except httpx.HTTPError:
            return False

    def ingress_decides(self) -> bool:
        body = {"unit": "u", "observation": [0.0, 0.0, 0.0, 0.0]}
        with contextlib.suppress(httpx.HTTPError):
            url = f"http://127.0.0.1:{self.port + 1}/v1/endpoints/cart/decisions"
            return httpx.post(url, json=body, headers=self.key(), timeout=5).is_success
        return False

    def key(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {(self.home / 'admin-key').read_text().strip()}"}

    def logs(self) -> str:
        return "\n".join(
            f"== {path.name}\n{path.read_text()[-3000:]}" for path in sorted((self.home / "log").glob("*.log"))
        )


def three_ports() -> int:
    for port in range(18100, 19000, 10):
        with contextlib.suppress(Exception):
            for number in (port, port + 1, port + 2):
                runtime.check_free(number)
            return port
    pytest.fail("no three free ports in a row")


def until(holds, *, seconds: float, what: str, machine: Machine) -> float:
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        if holds():
            return time.monotonic() - began
        time.sleep(0.2)
    pytest.fail(f"{what} not within {seconds} s\n{machine.logs()}")


@pytest.fixture(scope="module")
def stranger():
    """A process that is not ours, whose environment names another runtime: it must outlive everything."""
    process = subprocess.Popen(["sleep", "600"], env={"RLAAS_RUNTIME_ID": "another"}, start_new_session=True)
    yield process
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def machine(stranger):
    home = Path(tempfile.mkdtemp(prefix="rlaas-e2e-"))
    made = Machine(home, port=three_ports())
    try:
        made.rlaas("up", "--port", str(made.port))
        made.rlaas("serve", "cart", "baseline:CartPole-v1/random")
        until(made.decides, seconds=45, what="a decision", machine=made)
        yield made
    finally:
        if runtime.read(home) is not None:
            made.rlaas("down")
        shutil.rmtree(home, ignore_errors=True)


def test_a_second_up_starts_nothing_and_is_quick(machine: Machine) -> None:
    before = runtime.read(machine.home)
    began = time.monotonic()
    assert machine.rlaas("up", "--no-wait").stdout.strip() == machine.url
    assert time.monotonic() - began < 4  # 0.3 on an idle machine, interpreter included; this one may be busy
    assert runtime.read(machine.home) == before


def test_up_with_another_port_than_the_running_one_is_a_wrong_call(machine: Machine) -> None:
    problem = machine.told("up", "--port", "12345", code=2)
    assert "12345" in problem["detail"]


def test_status_is_up_and_all_answers(machine: Machine) -> None:
    told = machine.told("status")
    assert (told["state"], told["answers"]) == ("up", {"api": True, "ray": True, "policies": True})


def test_every_socket_of_ours_is_on_loopback(machine: Machine) -> None:
    pids = down.ours(runtime.read(machine.home))
    listening = subprocess.run(["ss", "-ltnpH"], check=True, capture_output=True, text=True).stdout.splitlines()
    ours = [line.split()[3] for line in listening if any(f"pid={pid}," in line for pid in pids)]
    assert len(ours) > 5
    assert not [address for address in ours if not address.startswith(("127.0.0.1:", "[::1]:", "[::ffff:127.0.0.1]:"))]


def test_a_port_in_use_names_the_process_that_holds_it(machine: Machine) -> None:
    other = Machine(machine.home / "other", port=machine.port)
    other.home.mkdir()
    problem = other.told("up", "--port", str(machine.port), code=1)
    assert f"pid {machine.child('api').pid}" in problem["detail"]
    assert "--port" in problem["cure"]


def test_decide_and_reward_on_the_command_line(machine: Machine) -> None:
    decision = machine.told("decide", "cart", "--unit", "u-1", "--observation", "example")
    assert decision["arm"] == "champion"
    assert decision["logged"] is True
    assert machine.told("reward", decision["decision_id"], "0.5", "--done")["accepted"] == 1


def test_a_killed_supervisor_is_replaced_by_the_next_up_and_its_children_are_adopted(machine: Machine) -> None:
    before = {name: child.pid for name, child in runtime.read(machine.home).children.items()}
    os.kill(runtime.read(machine.home).supervisor.pid, signal.SIGKILL)
    assert machine.decides()
    machine.told("status", code=1)
    machine.rlaas("up", "--no-wait")
    assert {name: child.pid for name, child in runtime.read(machine.home).children.items()} == before
    machine.rlaas("status")


def test_a_killed_api_is_back_and_decisions_went_on_without_it(machine: Machine) -> None:
    pid = machine.child("api").pid
    native = f"http://127.0.0.1:{machine.port + 2}/health"
    os.kill(pid, signal.SIGKILL)
    assert httpx.get(native, timeout=2).is_success
    until(
        lambda: machine.child("api").pid != pid and runtime.healthy(machine.port),
        seconds=10,
        what="the API",
        machine=machine,
    )
    assert machine.told("endpoints", "show", "cart")["name"] == "cart"


def test_a_killed_head_is_back_with_its_pools_and_the_same_epoch(machine: Machine) -> None:
    epoch = machine.told("endpoints", "show", "cart")["epoch"]
    head, api = machine.child("head").pid, machine.child("api").pid
    os.kill(head, signal.SIGKILL)
    until(lambda: machine.child("head").pid != head, seconds=10, what="another head", machine=machine)
    took = until(
        lambda: machine.ingress_decides() and machine.decides(), seconds=110, what="decisions", machine=machine
    )
    print(f"head killed: decisions through the new ingress after {took:.1f} s")
    assert machine.child("api").pid == api
    assert machine.told("endpoints", "show", "cart")["epoch"] == epoch


def test_down_leaves_nothing_of_ours_and_touches_no_stranger(machine: Machine, stranger) -> None:
    found = runtime.read(machine.home)
    assert len(down.ours(found)) > 10
    began = time.monotonic()
    told = machine.told("down")
    print(f"down: {told} in {time.monotonic() - began:.1f} s")
    assert not down.ours(found)
    assert stranger.poll() is None
    assert processes.start_time(stranger.pid) is not None
    assert machine.told("status")["state"] == "down"
