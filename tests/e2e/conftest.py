"""A runtime as `rlaas up` makes it, in a home of its own, and the commands that a user types there."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import pytest

from rlaas_ray.cli import down, runtime
from rlaas_ray.jobs import processes


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

    def until(self, holds, *, seconds: float, what: str) -> float:
        """Seconds until `holds()`; the test fails with the logs where it does not."""
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            if holds():
                return time.monotonic() - began
            time.sleep(0.2)
        pytest.fail(f"{what} not within {seconds} s\n{self.logs()}")

    def pids(self, words: str) -> set[int]:
        """Living processes of this runtime whose command line holds `words`."""
        return {pid for pid in down.ours(runtime.read(self.home)) if words in processes.command_line(pid)}


def three_ports() -> int:
    for port in range(18100, 19000, 10):
        with contextlib.suppress(Exception):
            for number in (port, port + 1, port + 2):
                runtime.check_free(number)
            return port
    pytest.fail("no three free ports in a row")


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
        made.until(made.decides, seconds=45, what="a decision")
        yield made
    finally:
        if runtime.read(home) is not None:
            made.rlaas("down")
        shutil.rmtree(home, ignore_errors=True)
