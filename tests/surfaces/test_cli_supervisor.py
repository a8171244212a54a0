"""The supervisor as a real process with children of a few lines: restart, adoption, giving up, ending without them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlaas_ray.jobs import processes

SLEEPER = [sys.executable, "-c", "import signal; print('up', flush=True); signal.pause()"]
DYING = [sys.executable, "-S", "-E", "-c", "print('port 8000 is in use'); raise SystemExit(1)"]


class Supervised:
    """A supervisor and what it says in its state file."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "runtime.json"
        self.folder = folder
        self.started: list[subprocess.Popen] = []

    def start(self, **commands: list[str]) -> subprocess.Popen:
        if not self.state.exists():
            self.state.write_text(json.dumps({"id": "x"}))
        children = {
            name: {
                "command": command,
                "environment": {},
                "log": str(self.folder / f"{name}.log"),
                "directory": str(self.folder),
            }
            for name, command in commands.items()
        }
        with (self.folder / "supervisor.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "rlaas_ray.cli.supervisor"],
                stdin=subprocess.PIPE,
                stdout=log,
                start_new_session=True,
                text=True,
            )
        process.stdin.write(json.dumps({"state": str(self.state), "children": children}))
        process.stdin.close()
        self.started.append(process)
        self.until(lambda told: told.get("supervisor", {}).get("pid") == process.pid)
        return process

    def told(self) -> dict:
        return json.loads(self.state.read_text())

    def until(self, holds, *, seconds: float = 8.0) -> dict:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            told = self.told()
            if holds(told):
                return told
            time.sleep(0.02)
        pytest.fail(f"never came true: {self.told()}")

    def pid(self, name: str) -> int:
        return self.told()["children"][name]["pid"]


@pytest.fixture
def supervised(tmp_path):
    made = Supervised(tmp_path)
    yield made
    for process in made.started:
        process.terminate()
        process.wait(5)
    for child in made.told().get("children", {}).values():
        processes.end(child["pid"], child["start_time"], grace_s=2)


def test_a_killed_child_is_started_again_in_a_session_of_its_own(supervised) -> None:
    supervised.start(api=SLEEPER, head=SLEEPER)
    first, head = supervised.pid("api"), supervised.pid("head")
    assert processes.session(first) == first
    os.kill(first, signal.SIGKILL)
    told = supervised.until(lambda told: told["children"]["api"]["pid"] != first)
    assert told["children"]["api"]["restarts"] == 1
    assert told["children"]["head"]["pid"] == head


def test_what_the_dead_child_left_in_its_session_is_ended_before_the_next_one(supervised) -> None:
    leaving = (
        "import subprocess, signal; c = subprocess.Popen(['sleep', '60'], process_group=0);"
        "print(c.pid, flush=True); signal.pause()"
    )
    supervised.start(head=[sys.executable, "-c", leaving])
    log = supervised.folder / "head.log"
    supervised.until(lambda told: log.read_text().strip())
    orphan, first = int(log.read_text()), supervised.pid("head")
    os.kill(first, signal.SIGKILL)
    supervised.until(lambda told: told["children"]["head"]["pid"] != first)
    assert processes.start_time(orphan) is None


def test_a_killed_supervisor_leaves_its_children_and_the_next_one_adopts_them(supervised) -> None:
    first = supervised.start(api=SLEEPER, head=SLEEPER)
    pids = supervised.pid("api"), supervised.pid("head")
    first.kill()
    first.wait()
    supervised.start(api=SLEEPER, head=SLEEPER)
    assert (supervised.pid("api"), supervised.pid("head")) == pids
    os.kill(pids[0], signal.SIGKILL)  # adopted, not its child: it sees the death all the same
    supervised.until(lambda told: told["children"]["api"]["pid"] != pids[0])


def test_sigterm_ends_the_supervisor_and_no_child(supervised) -> None:
    process = supervised.start(api=SLEEPER)
    child = supervised.told()["children"]["api"]
    process.terminate()
    assert process.wait(5) == 0
    assert processes.alive(child["pid"], child["start_time"])


@pytest.mark.slow
def test_five_deaths_in_a_minute_are_a_failure_told_with_the_last_lines(supervised) -> None:
    supervised.start(api=DYING, head=SLEEPER)
    told = supervised.until(lambda told: told["children"]["api"]["state"] == "failed", seconds=20)
    assert "port 8000 is in use" in told["children"]["api"]["last"]
    assert told["children"]["head"]["state"] == "running"
    assert "FAILED" in (supervised.folder / "supervisor.log").read_text()


def test_the_supervisor_loads_the_standard_library_and_nothing_else() -> None:
    listing = subprocess.run(
        [sys.executable, "-c", "import sys, rlaas_ray.cli.supervisor; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    foreign = (
        {name.split(".")[0] for name in listing}
        - set(sys.stdlib_module_names)
        - {"rlaas_ray", "__main__", "sitecustomize"}
    )
    assert not {name for name in foreign if not name.startswith("_")}
