"""What only a real Serve can break: the pool deployed from outside, its replica killed under load, the app taken away."""

import asyncio
import socket
import tempfile
import time
from pathlib import Path

import httpx
import orjson
import pytest

from rlaas_ray.data.decision_log import ArrowDecisionLog
from rlaas_ray.errors import WorkFailed
from rlaas_ray.serve.pools import ServePools
from rlaas_ray.testing import bundles, load
from rlaas_ray.testing.head import Head
from rlaas_ray.testing.routes import RoutesServer

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(300)]
DECISIONS = "/v1/endpoints/cells/decisions"
BODY = orjson.dumps({"unit": "cell-7", "observation": [0.1, 0.2, 0.3, 0.4]})


class Pool:
    """A head with one pool on it."""

    def __init__(self, root):
        self.root, self.api, self.head = root, RoutesServer(), Head(root)
        digest = bundles.a_bundle(root / "bundle")
        self.digest = digest
        self.api.put(bundles.a_table(digest), bundles={digest: str(root / "bundle")})
        self.ingress, self.native = (self._free() for _ in range(2))
        told = {"pool": "policies", "home": str(root), "data": str(root), "api": self.api.url, "key": "k"}
        told |= {"port": self.native, "ingress": {"host": "127.0.0.1", "port": self.ingress}}
        self.told = told
        self.pools = ServePools(
            address=self.head.address,
            dashboard=self.head.dashboard,
            settings=lambda _: self.told,
            environment=self.head.environment,
        )

    @staticmethod
    def _free():
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            return one.getsockname()[1]

    def close(self):
        self.pools.close()
        self.head.stop()
        self.api.stop()


@pytest.fixture(scope="module")
def pool():
    with tempfile.TemporaryDirectory(prefix="rlaas-pool-", ignore_cleanup_errors=True) as folder:
        made = Pool(Path(folder))
        try:
            made.head.wait()
            yield made
        finally:
            made.close()


def drive(pool, **more):
    fields = {"path": DECISIONS, "body": BODY, "clients": 6, "keep": True, "retries": 1} | more
    return load.run(load.Load(host="127.0.0.1", port=pool.native, **fields))


def test_a_pool_is_applied_killed_under_load_and_deleted(pool):
    assert pool.pools.running() == {}
    session = pool.pools.head_id()
    assert session is not None
    assert session.startswith("session_")
    pool.pools.apply("policies")
    assert pool.pools.running() == {"policies": "RUNNING"}
    for port in (pool.native, pool.ingress):
        assert httpx.post(f"http://127.0.0.1:{port}{DECISIONS}", content=BODY, trust_env=False).status_code == 200

    # A rollout is a table, not a deployment: both doors follow.
    pool.api.put(bundles.a_table(pool.digest, epoch=2))
    time.sleep(1.0)
    for port in (pool.native, pool.ingress):
        answer = httpx.post(f"http://127.0.0.1:{port}{DECISIONS}", content=BODY, trust_env=False)
        assert answer.json()["epoch"] == 2

    async def killed():
        running = asyncio.create_task(drive(pool, seconds=16.0, rate=200))
        await asyncio.sleep(1.0)
        assert pool.head.kill_replicas() == 1
        return await running

    seen = asyncio.run(killed())
    # The child lives in a session of its own: it answered as an orphan while Serve made a new replica with a new child.
    assert (seen.refused, seen.bad) == (0, {}), "\n".join(p.read_text() for p in pool.root.glob("log/*"))
    assert seen.gap_s < 2.0
    written = set(ArrowDecisionLog(str(pool.root)).read("cells", after={})[0].decision_id.tolist())
    assert load.decision_ids(seen) - written == set()
    assert len({name.partition("-")[0] for name in load.decision_ids(seen)}) == 2

    pool.pools.apply("policies")  # idempotent
    pool.pools.delete("policies")
    assert pool.pools.running() == {}
    pool.pools.shutdown()
    assert pool.pools.head_id() == session


def test_an_act_that_fails_says_what_ray_said(pool):
    pool.told = pool.told | {"porcessors": 2}
    with pytest.raises(WorkFailed, match="porcessors"):
        pool.pools.apply("policies")
