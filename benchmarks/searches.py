"""A hundred searches at once: in one host on one core, and through the API as `rlaas up` starts it.

    python -m benchmarks.searches host|api [--searches 100] [--problem dtlz2] [--generations 60]

`host`: the real host on its inbox, with a desk that only counts. Its clock is this process's CPU time: the figures are those of a
core of its own, whatever else the machine does. `api`: uvicorn, the host as a process, reports over loopback; wall time, as a
client sees it in the database. Population 100, NSGA-II, two tenants. Exits 1 when a bar of `host` is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psutil

from rlaas_ray.jobs import host, scheduler
from rlaas_ray.jobs.inbox import Inbox, Order
from rlaas_ray.specs.runs import Run
from rlaas_ray.specs.seams import Clock
from rlaas_ray.testing.reporter import TwinReporter

SECONDS, JAIN, GAP_S, MEMORY_GIB = 10.0, 0.95, 1.0, 4.0


class CpuClock(Clock):
    """Seconds that this process has computed."""

    def now_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic_s(self) -> float:
        return time.process_time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class Line(TwinReporter):
    """Counts what its search got of the core, and the longest time that it stood still."""

    last_s = 0.0  # of all lines

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self.refused = None
        self.over = False
        self.spent_s = self.gap_s = 0.0
        self.steps = 0
        self.moved_s = time.process_time()

    def beat(self, progress):
        now_s = time.process_time()
        self.spent_s += now_s - Line.last_s
        self.gap_s = max(self.gap_s, now_s - self.moved_s)
        Line.last_s = self.moved_s = now_s
        self.steps = progress.steps
        return self.state

    def event(self, kind, data) -> None:
        """Counted by nobody: the API's work is `api`'s."""

    def metrics(self, rows) -> None:
        """The same."""

    def finish(self, state, **more) -> None:
        self.final = {"state": state, "error": more.get("error")}
        self.over = True

    def leave(self) -> None:
        self.over = True


def hosted(given: argparse.Namespace, folder: Path) -> bool:
    lines: dict[str, Line] = {}
    inbox, clock = Inbox(folder / "hosts" / "0"), CpuClock()

    def opened(order: Order) -> Line:
        told = {"name": None, "spec_digest": "", "seed": 0, "epoch": 1, "place": "here", "created_us": 1}
        run = Run(id=order.run_id, kind="optimize", spec=order.spec, state="running", attempt=1, **told)
        lines[order.run_id] = Line(run)
        return lines[order.run_id]

    seams = host.Seams(
        open=opened,
        lookup=lambda order, run_id: {},
        move=lambda order: print("goes alone:", order.run_id),
        runs=folder / "runs",
        clock=clock,
        waited_s=lambda: 0.0,
        elsewhere=lambda spec, problem: contextlib.nullcontext(),
        provenance={},
    )
    serving = host.Host(inbox, seams, rules=scheduler.Rules())
    for number in range(given.searches):
        name = f"optimize-{number:03d}"
        (folder / "runs" / name).mkdir(parents=True)
        spec = wanted(given, seed=number)
        order = Order(run_id=name, attempt=1, key="", spec=spec, tenant=f"key:{number % 2}", created_us=clock.now_us())
        inbox.put(order)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began_s = Line.last_s = time.process_time()
    first = half = None
    while inbox.names():
        serving.round()
        if first is None and len(lines) == given.searches and all(line.steps for line in lines.values()):
            first = [line.spent_s for line in lines.values()]  # what the first generation imports is counted for nobody
        if half is None and sum(line.steps for line in lines.values()) >= given.searches * given.generations / 2:
            half = [line.spent_s for line in lines.values()]
    took_s = time.process_time() - began_s
    assert first is not None
    assert half is not None
    got = [late - early for late, early in zip(half, first, strict=True)]
    found = {
        "searches": given.searches,
        "problem": given.problem,
        "succeeded": sum(line.final["state"] == "succeeded" for line in lines.values()),
        "cpu_s": round(took_s, 2),
        "jain": round(sum(got) ** 2 / (len(got) * sum(one * one for one in got)), 4),
        "gap_s": round(max(line.gap_s for line in lines.values()), 2),
        "memory_gib": round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20, 3),
    }
    print(json.dumps(found))
    kept = found["cpu_s"] <= SECONDS and found["jain"] >= JAIN and found["gap_s"] <= GAP_S
    return kept and found["memory_gib"] <= MEMORY_GIB and found["succeeded"] == given.searches


def wanted(given: argparse.Namespace, *, seed: int) -> dict:
    told = {"algorithm": "nsga2", "population_size": 100, "stagnation": False}
    return {"problem": given.problem, "generations": given.generations, "seed": seed, **told}


def through(given: argparse.Namespace, folder: Path) -> None:
    home = folder / "home"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    own = {**os.environ, "RLAAS_HOME": str(home), "OMP_NUM_THREADS": "1"}
    command = ["uvicorn", "--factory", "rlaas_ray.wiring:api", "--port", str(port), "--no-access-log"]
    api = subprocess.Popen([sys.executable, "-m", *command], env=own, stderr=subprocess.DEVNULL)
    try:
        print(json.dumps(_asked(given, home=home, url=f"http://127.0.0.1:{port}", api=api)))
    finally:
        for process in _hosts(home):
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=30)
        api.terminate()
        api.wait(timeout=30)


def _asked(given: argparse.Namespace, *, home: Path, url: str, api: subprocess.Popen[bytes]) -> dict:
    while True:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/health").status_code == 200:
                break
        time.sleep(0.1)
    admin = {"Authorization": f"Bearer {(home / 'admin-key').read_text()}"}
    with httpx.Client(base_url=url, timeout=60) as client:
        keys = [
            client.post("/api/v1/keys", json={"roles": ["operator"]}, headers=admin).json()["secret"]
            for _ in range(-(-given.searches // 50))  # a tenant for each 50
        ]
        before_s = sum(psutil.Process(api.pid).cpu_times()[:2])
        began_s = time.monotonic()
        for number in range(given.searches):
            key = {"Authorization": f"Bearer {keys[number // 50]}"}
            answer = client.post("/api/v1/optimization", json=wanted(given, seed=number), headers=key)
            assert answer.status_code == 202, answer.text
        created_s = time.monotonic() - began_s
    seen = _followed(home / "rlaas.db")
    took_s = time.monotonic() - began_s
    (own,) = _hosts(home)
    return {
        "searches": given.searches,
        "problem": given.problem,
        "succeeded": seen["succeeded"],
        "wall_s": round(took_s, 1),
        "created_s": round(created_s, 1),
        "host_cpu_s": round(sum(own.cpu_times()[:2]), 1),
        "api_cpu_s": round(sum(psutil.Process(api.pid).cpu_times()[:2]) - before_s, 1),
        "gap_s": round(seen["gap_s"], 2),
        "host_gib": round(own.memory_info().rss / 2**30, 2),
        "load": round(os.getloadavg()[0], 1),
    }


def _followed(path: Path) -> dict:
    """Until all have ended: how many well, and the longest time between two looks at one that differ while it was stepped."""
    moved: dict[str, tuple[int, float]] = {}
    gap_s = 0.0
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        while True:
            rows = database.execute("select id, state, progress_json from runs").fetchall()
            now_s = time.monotonic()
            for run_id, _, progress in rows:
                steps = json.loads(progress)["steps"]
                before, since_s = moved.get(run_id, (0, now_s))
                if steps != before:
                    gap_s = max(gap_s, now_s - since_s) if before else gap_s
                    moved[run_id] = (steps, now_s)
            if all(state in {"succeeded", "failed", "stopped"} for _, state, _ in rows):
                return {"gap_s": gap_s, "succeeded": sum(state == "succeeded" for _, state, _ in rows)}
            time.sleep(0.1)


def _hosts(home: Path) -> list[psutil.Process]:
    return [one for one in psutil.process_iter() if f"rlaas_ray.cli.host {home}" in " ".join(_words(one))]


def _words(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.Error):
        return process.cmdline()
    return []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("host", "api"))
    parser.add_argument("--searches", type=int, default=100)
    parser.add_argument("--problem", default="dtlz2")
    parser.add_argument("--generations", type=int, default=60)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        if given.what == "api":
            through(given, Path(folder))
            return 0
        return int(not hosted(given, Path(folder)))


if __name__ == "__main__":
    sys.exit(main())
