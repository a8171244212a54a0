"""The data plane under load and faults: swaps, kills, an API that is away, a parent that dies. Real processes, no Ray."""

import asyncio
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import httpx
import orjson
import pytest

from rlaas_ray.data.decision_log import ArrowDecisionLog
from rlaas_ray.serve import standalone
from rlaas_ray.testing import bundles, load
from rlaas_ray.testing.routes import RoutesServer

pytestmark = pytest.mark.slow
DECISIONS = "/v1/endpoints/cells/decisions"
BODY = orjson.dumps({"unit": "cell-7", "observation": [0.1, 0.2, 0.3, 0.4]})


@pytest.fixture
def bundle(tmp_path):
    digest = bundles.a_bundle(tmp_path / "bundle")
    return digest, {digest: str(tmp_path / "bundle")}


@pytest.fixture
def api():
    server = RoutesServer()
    yield server
    server.stop()


def drive(listener, **more):
    host, port = listener.url.removeprefix("http://").split(":")
    fields = {"path": DECISIONS, "body": BODY, "clients": 16, "keep": True} | more
    return load.run(load.Load(host=host, port=int(port), **fields))


def ids(root):
    return set(ArrowDecisionLog(str(root)).read("cells", after={})[0].decision_id.tolist())


def until(condition, timeout_s=20.0):
    end_s = time.monotonic() + timeout_s
    while time.monotonic() < end_s:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_route_swaps_under_sixteen_clients_fail_no_request(tmp_path, bundle, api):
    digest, paths = bundle
    other = bundles.a_bundle(tmp_path / "other", seed=8)
    api.put(bundles.a_table(digest), bundles=paths | {other: str(tmp_path / "other")})
    ended = threading.Event()

    def swapping():
        for epoch in range(2, 200):
            if ended.wait(0.05):
                return
            api.put(bundles.a_table([digest, other][epoch % 2], epoch=epoch))

    with standalone.start(home=tmp_path, api=api.url, key="k") as listener:
        thread = threading.Thread(target=swapping)
        thread.start()
        seen = asyncio.run(drive(listener, requests=2_000))
        ended.set()
        thread.join()
    assert (seen.good, seen.refused, seen.bad) == (2_000, 0, {})
    answers = [orjson.loads(body) for body in seen.bodies]
    assert len({a["epoch"] for a in answers}) > 3
    assert load.decision_ids(seen) <= ids(tmp_path)
    assert any(int(poll["after_epoch"]) > 1 for poll in api.polls)  # the next poll says which epoch runs


def test_killing_the_child_loses_no_acknowledged_decision_and_it_comes_back(tmp_path, bundle):
    digest, paths = bundle

    async def killed(listener):
        running = asyncio.create_task(drive(listener, seconds=4.0, clients=8))
        await asyncio.sleep(0.7)
        os.kill(listener.pids[0], signal.SIGKILL)
        return await running

    with standalone.start(home=tmp_path, tables=[bundles.a_table(digest)], bundles=paths) as listener:
        first = listener.pids[0]
        seen = asyncio.run(killed(listener))
        assert until(lambda: listener.pids[0] != first)
        assert until(lambda: _healthy(listener.url))
        after = httpx.post(listener.url + DECISIONS, content=BODY, trust_env=False).json()["decision_id"]
    assert len(seen.bodies) > 50
    assert load.decision_ids(seen) - ids(tmp_path) == set()
    assert after in ids(tmp_path)
    assert after.partition("-")[0] != orjson.loads(seen.bodies[0])["decision_id"].partition("-")[0]  # another process
    # Stopping sealed what the dead child left and what the living one ended.
    assert not list(tmp_path.glob("decisions/**/*.arrows"))


def test_a_child_that_hangs_is_killed_and_replaced(tmp_path, bundle):
    digest, paths = bundle
    with standalone.start(home=tmp_path, tables=[bundles.a_table(digest)], bundles=paths) as listener:
        first = listener.pids[0]
        os.kill(first, signal.SIGSTOP)
        assert until(lambda: listener.pids[0] != first, 6)
        assert until(lambda: _healthy(listener.url))


def test_with_the_api_away_a_restarted_child_serves_from_the_disk(tmp_path, bundle, api):
    digest, paths = bundle
    api.put(bundles.a_table(digest, epoch=9), bundles=paths)
    with standalone.start(home=tmp_path, api=api.url, key="k") as listener:
        assert until((tmp_path / "routes/policies.json").exists)
        api.away = True
        os.kill(listener.pids[0], signal.SIGKILL)
        assert until(lambda: _healthy(listener.url))
        answer = httpx.post(listener.url + DECISIONS, content=BODY, trust_env=False).json()
        assert answer["epoch"] == 9


def test_a_listener_without_an_api_takes_new_tables_from_its_file(tmp_path, bundle):
    digest, paths = bundle
    with standalone.start(home=tmp_path, tables=[bundles.a_table(digest)], bundles=paths) as listener:
        listener.route([bundles.a_table(digest, epoch=5)], bundles=paths)
        assert until(
            lambda: httpx.post(listener.url + DECISIONS, content=BODY, trust_env=False).json()["epoch"] == 5, 5
        )


def test_an_orphan_serves_on_until_a_new_parent_has_a_child(tmp_path, bundle):
    digest, paths = bundle
    standalone.write_tables(tmp_path / "routes/policies.json", tables=[bundles.a_table(digest)], bundles=paths)
    program = (
        "import sys, time, json; from pathlib import Path\n"
        "from rlaas_ray.serve import standalone\n"
        "from rlaas_ray.serve.routes import Told\n"
        "home = Path(sys.argv[1]); told = Told.from_json(json.loads((home / 'routes/policies.json').read_text()))\n"
        "s = standalone.start(home=home, tables=told.tables, bundles=told.bundles, port=int(sys.argv[2]))\n"
        "print(json.dumps([s.url, s.pids]), flush=True); time.sleep(60)\n"
    )

    def parent(port):
        command = [sys.executable, "-c", program, str(tmp_path), str(port)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
        url, pids = json.loads(process.stdout.readline())
        process.stdout.close()
        return process, url, pids[0]

    first, url, orphan = parent(0)
    first.kill()
    first.wait()
    time.sleep(0.5)
    assert _healthy(url)
    second, _, child = parent(int(url.rpartition(":")[2]))
    try:
        assert until(lambda: not _alive(orphan), 8)
        assert _healthy(url)
    finally:
        second.kill()
        second.wait()
        os.kill(child, signal.SIGTERM)


def _alive(pid):
    try:
        with pathlib.Path(f"/proc/{pid}/stat").open() as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _healthy(url):
    try:
        return httpx.get(url + "/health", timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False
