"""What the data plane carries: capacity, latency at half of it, a swap under load, kills under load, engines against each other.

`python -m benchmarks.serving [--quick] [--engines]` prints one JSON document. The policy is the 32-256-256-8 tanh network of
the serving design; the load generator shares the machine with the server, so capacities are lower bounds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import granian.constants
import granian.server.embed
import orjson
import uvloop

from rlaas_ray.data.decision_log import ArrowDecisionLog
from rlaas_ray.serve import plane, standalone
from rlaas_ray.serve.httpd import HttpServer
from rlaas_ray.testing import bundles, load
from rlaas_ray.testing.routes import RoutesServer

OBSERVATION = [0.1] * 32
PREDICT = orjson.dumps({"state": OBSERVATION})
DECISION = orjson.dumps({"unit": "cell-7", "observation": OBSERVATION})
DECISIONS = "/v1/endpoints/cells/decisions"


def cpu_s(pids: list[int]) -> float:
    """User and system time of processes so far."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="latin-1").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def drive(listener: standalone.Standalone, path: str, body: bytes, **more) -> load.Seen:
    """One load against the listener."""
    host, port = listener.url.removeprefix("http://").split(":")
    return uvloop.run(load.run(load.Load(host=host, port=int(port), path=path, body=body, **more)))


def capacity(listener: standalone.Standalone, path: str, body: bytes, *, seconds: float) -> dict:
    """Closed loop at 64 clients and at 1, then an open loop at half of what 64 clients got."""
    drive(listener, path, body, seconds=1.0)
    before = cpu_s(listener.pids)
    full = drive(listener, path, body, seconds=seconds)
    spent = cpu_s(listener.pids) - before
    half = drive(listener, path, body, seconds=seconds, rate=full.rate / 2)
    one = drive(listener, path, body, seconds=seconds / 2, clients=1)
    return {
        "rps_64": round(full.rate),
        "p50_ms_64": round(full.percentile_ms(50), 2),
        "p99_ms_64": round(full.percentile_ms(99), 2),
        "server_cpu_us": round(spent / max(full.good, 1) * 1e6, 1),
        "failed": full.refused + sum(full.bad.values()) + half.refused + sum(half.bad.values()),
        "rps_half": round(half.rate),
        "p50_ms_half": round(half.percentile_ms(50), 2),
        "p99_ms_half": round(half.percentile_ms(99), 2),
        "rps_1": round(one.rate),
        "p50_ms_1": round(one.percentile_ms(50), 3),
    }


def engines(root: Path, tables: list, paths: dict[str, str], *, seconds: float) -> dict:
    """The same door under uvicorn (as the listener has it, limits and all) and under granian, turn about.

    On a machine that does other work too, compare `server_cpu_us`; the rates move with the load.
    """
    home = root / "engines"
    standalone.write_tables(home / "routes/policies.json", tables=tables, bundles=paths)
    seen: dict[str, list[dict]] = {"uvicorn": [], "granian": []}
    for _ in range(3):
        for name, measured in seen.items():
            measured.append(one_engine(name, home, seconds=seconds))
    return {name: sorted(measured, key=lambda row: row["server_cpu_us"])[1] for name, measured in seen.items()}


def one_engine(name: str, home: Path, *, seconds: float) -> dict:
    """One server process under `name`, 64 clients on /predict."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "benchmarks.serving", "--serve", name, "--home", str(home), "--port", str(port)]
    process = subprocess.Popen(command)
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.1)
        asked = load.Load(host="127.0.0.1", port=port, path="/predict", body=PREDICT, seconds=1.0)
        uvloop.run(load.run(asked))
        before = cpu_s([process.pid])
        full = uvloop.run(load.run(replace(asked, seconds=seconds)))
        spent = cpu_s([process.pid]) - before
    finally:
        process.kill()
        process.wait()
    return {
        "rps_64": round(full.rate),
        "p99_ms_64": round(full.percentile_ms(99), 2),
        "server_cpu_us": round(spent / max(full.good, 1) * 1e6, 1),
        "failed": full.refused + sum(full.bad.values()),
        "load": round(os.getloadavg()[0], 1),
    }


async def serve(name: str, home: Path, *, port: int) -> None:
    """The listener's door alone under an engine, until killed."""
    made = plane.build(pool="policies", home=home, data=home, auth="loopback")
    made.routes.read_cache()
    if name == "uvicorn":
        listening = socket.create_server(("127.0.0.1", port), backlog=2048)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await HttpServer(made.door, drain_s=1.0, draining=lambda: None).serve(sockets=[listening])
    else:
        server = granian.server.embed.Server(
            made.door, address="127.0.0.1", port=port, interface=granian.constants.Interfaces.ASGINL, log_enabled=False
        )
        await server.serve()


def swap(root: Path, *, requests: int, swaps: int) -> dict:
    """A new epoch with another bundle again and again, while 16 clients ask `requests` times."""
    digests = [bundles.a_bundle(root / f"swap-{i}", width=32, hidden=(256, 256), actions=8, seed=i) for i in (1, 2)]
    paths = {digest: str(root / f"swap-{i}") for i, digest in zip((1, 2), digests, strict=True)}
    api = RoutesServer()
    api.put(bundles.a_table(digests[0]), bundles=paths)
    ended = threading.Event()

    def swapping() -> None:
        for epoch in range(2, swaps + 2):
            if ended.wait(0.15):
                return
            api.put(bundles.a_table(digests[epoch % 2], epoch=epoch))

    with standalone.start(home=root / "swap", api=api.url, key="k") as listener:
        thread = threading.Thread(target=swapping)
        thread.start()
        seen = drive(listener, DECISIONS, DECISION, clients=16, requests=requests, keep=True)
        ended.set()
        thread.join()
    api.stop()
    epochs = {orjson.loads(body)["epoch"] for body in seen.bodies}
    return {
        "requests": requests,
        "good": seen.good,
        "failed": seen.refused + sum(seen.bad.values()),
        "epochs_seen": len(epochs),
        "p99_ms": round(seen.percentile_ms(99), 2),
    }


def kills(root: Path, table, paths: dict[str, str], *, count: int) -> dict:
    """`kill -9` of the child again and again under 8 clients; then every acknowledged decision is looked for in the log."""
    home = root / "kills"
    with standalone.start(home=home, tables=[table], bundles=paths) as listener:
        gaps, acknowledged, refused = [], set(), 0

        async def one() -> load.Seen:
            host, port = listener.url.removeprefix("http://").split(":")
            asked = load.Load(
                host=host, port=int(port), path=DECISIONS, body=DECISION, clients=8, seconds=2.0, keep=True
            )
            running = asyncio.create_task(load.run(asked))
            await asyncio.sleep(0.5)
            os.kill(listener.pids[0], signal.SIGKILL)
            return await running

        for _ in range(count):
            seen = asyncio.run(one())
            gaps.append(seen.gap_s)
            refused += seen.refused
            acknowledged |= load.decision_ids(seen)
            time.sleep(1.0)  # the next spare child is ready; five deaths a minute is what a replica is replaced for
    written = set(ArrowDecisionLog(str(home)).read("cells", after={})[0].decision_id.tolist())
    return {
        "kills": count,
        "acknowledged": len(acknowledged),
        "missing": len(acknowledged - written),
        "attempts_refused": refused,
        "gap_s_median": round(sorted(gaps)[len(gaps) // 2], 3),
        "gap_s_max": round(max(gaps), 3),
    }


def main() -> None:
    """Run all parts and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes")
    parser.add_argument("--engines", action="store_true", help="only compare HTTP engines under the same door")
    parser.add_argument("--serve", choices=["uvicorn", "granian"], help=argparse.SUPPRESS)
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.serve:
        uvloop.run(serve(told.serve, told.home, port=told.port))
        return
    quick = told.quick
    gc.disable()  # a pause of the load generator is not the server's
    with tempfile.TemporaryDirectory(prefix="rlaas-bench-") as folder:
        root = Path(folder)
        digest = bundles.a_bundle(root / "bundle", width=32, hidden=(256, 256), actions=8)
        paths = {digest: str(root / "bundle")}
        tables = [bundles.a_table(digest), bundles.a_table(digest, endpoint="default", epoch=2)]
        seconds = 3.0 if quick else 10.0
        if told.engines:
            print(json.dumps(engines(root, tables, paths, seconds=seconds), indent=2))
            return
        with standalone.start(home=root / "one", tables=tables, bundles=paths) as listener:
            predict = capacity(listener, "/predict", PREDICT, seconds=seconds)
            decisions = capacity(listener, DECISIONS, DECISION, seconds=seconds)
        result = {
            "machine": {"cores": os.cpu_count(), "load": os.getloadavg()[0], "python": platform.python_version()},
            "predict": predict,
            "decisions_logged": decisions,
            "swap": swap(root, requests=3_000 if quick else 10_000, swaps=20 if quick else 60),
            "kills": kills(root, tables[0], paths, count=4 if quick else 20),
        }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
