"""One suite over the doors: the native listener (a real process on a real socket) and Serve's ingress in front of a replica."""

import functools
import http.client
import json
import re
import socket
import tempfile
import time
from pathlib import Path

import httpx
import pytest

from rlaas_ray.data.decision_log import ArrowDecisionLog
from rlaas_ray.serve import standalone
from rlaas_ray.serve.pools import ServePools
from rlaas_ray.testing import bundles
from rlaas_ray.testing.head import Head
from rlaas_ray.testing.routes import RoutesServer

OBSERVATION = [0.1, -0.2, 0.3, 0.4]


class Doors:
    """Base URL of a door, and the log behind it."""

    def __init__(self, url, root):
        self.root = root
        self.client = httpx.Client(base_url=url, timeout=20, trust_env=False)

    def decide(self, **more):
        body = {"unit": "cell-7", "observation": OBSERVATION} | more
        return self.client.post("/v1/endpoints/cells/decisions", json=body)

    def ids(self):
        return set(ArrowDecisionLog(str(self.root)).read("cells", after={})[0].decision_id.tolist())


def tables(root):
    digest = bundles.a_bundle(root / "bundle")
    return [bundles.a_table(digest), bundles.a_table(digest, endpoint="default", epoch=2)], {
        digest: str(root / "bundle")
    }


def native():
    with tempfile.TemporaryDirectory(prefix="rlaas-doors-") as folder:
        root = Path(folder)
        held, paths = tables(root)
        with standalone.start(home=root, tables=held, bundles=paths) as listener:
            door = Doors(listener.url, root)
            yield door
            door.client.close()


def ingress():
    with tempfile.TemporaryDirectory(prefix="rlaas-doors-") as folder:
        root = Path(folder)
        held, paths = tables(root)
        api = RoutesServer()
        for table in held:
            api.put(table, bundles=paths)
        head = Head(root)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        told = {"pool": "policies", "home": str(root), "data": str(root), "api": api.url, "key": "k", "port": 0}
        told["ingress"] = {"host": "127.0.0.1", "port": port}
        pools = ServePools(
            address=head.address, dashboard=head.dashboard, settings=lambda _: told, environment=head.environment
        )
        try:
            head.wait()
            pools.apply("policies")
            assert pools.running() == {"policies": "RUNNING"}
            door = Doors(f"http://127.0.0.1:{port}", root)
            yield door
            door.client.close()
            pools.shutdown()
        finally:
            pools.close()
            head.stop()
            api.stop()


@pytest.fixture(scope="module", params=["native", pytest.param("ingress", marks=[pytest.mark.ray, pytest.mark.slow])])
def door(request):
    yield from {"native": native, "ingress": ingress}[request.param]()


def test_health(door):
    response = door.client.get("/health")
    assert (response.status_code, response.json()) == (200, {"status": "healthy"})
    assert response.headers["content-type"] == "application/json"
    assert door.client.head("/health").status_code == 200


def test_a_decision_and_its_reward_are_in_the_log_before_the_answer(door):
    response = door.decide()
    assert response.status_code == 200
    body = response.json()
    assert set(body) == {
        *("decision_id", "action", "version", "arm", "arm_probability", "propensity", "probabilities"),
        *("epoch", "logged", "fallback"),
    }
    assert body["logged"] is True
    assert body["action"] in (0, 1)
    assert body["propensity"] == pytest.approx(body["probabilities"][body["action"]])
    assert response.headers["x-rlaas-arm"] == "champion"
    assert body["decision_id"] in door.ids()
    told = door.client.post("/v1/endpoints/cells/rewards", json={"decision_id": body["decision_id"], "reward": 0.5})
    assert (told.status_code, told.json()) == (202, {"accepted": 1, "duplicate": 0, "rejected": []})


def test_the_plain_faces(door):
    assert door.client.post("/predict", json={"state": OBSERVATION}).json()["action"] in (0, 1)
    assert len(door.client.post("/predict", json={"state": [OBSERVATION] * 3}).json()["action"]) == 3
    assert door.client.get("/v2/models/cells").json()["inputs"][0]["shape"] == [-1, 4]
    tensor = {"name": "obs", "datatype": "FP32", "shape": [1, 4], "data": OBSERVATION}
    assert door.client.post("/v2/models/cells/infer", json={"inputs": [tensor]}).status_code == 200
    assert b"rlaas_decisions_total" in door.client.get("/metrics").content


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "slug"),
    [
        ("POST", "/v1/endpoints/cells/decisions", b"{", 400, "bad-json"),
        ("POST", "/v1/endpoints/cells/decisions", b'{"unit":"u","observation":[NaN,0,0,0]}', 400, "bad-json"),
        ("POST", "/v1/endpoints/cells/decisions", b'{"unit":"u","observation":[0]}', 422, "bad-observation"),
        ("POST", "/v1/endpoints/cells/decisions", b'{"unit":"u","observatio":[0]}', 422, "unknown-field"),
        ("POST", "/v1/endpoints/nobody/decisions", b"{}", 404, "not-found"),
        ("GET", "/v1/endpoints/cells/decisions", None, 405, "method"),
        ("POST", "/v1/endpoints/cells/decisions", b'{"unit":"' + b"u" * (1 << 20) + b'"}', 413, "too-large"),
        ("POST", "/v1/endpoints/cells/decisions", b" " * ((8 << 20) + 1), 413, "too-large"),
        ("GET", "/%2e%2e/etc", None, 404, "not-found"),
    ],
    ids=["json", "nan", "shape", "field", "endpoint", "method", "body", "batch-body", "path"],
)
def test_errors_are_problem_documents(door, method, path, content, status, slug):
    response = door.client.request(method, path, content=content)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["type"] == f"/docs/problems/{slug}"
    assert body["request_id"] == response.headers["x-request-id"]


def test_a_large_batch_is_answered_whole(door):
    batch = [{"unit": f"u-{i}", "observation": OBSERVATION} for i in range(1024)]
    body = door.client.post("/v1/endpoints/cells/decisions", json={"batch": batch}).json()
    assert len({item["decision_id"] for item in body["batch"]}) == 1024
    assert {item["decision_id"] for item in body["batch"]} <= door.ids()


# --- what only the native listener has to keep: it owns its socket --------------------------------------------------------


@pytest.fixture(scope="module")
def raw():
    for door in native():
        yield functools.partial(talk, door.client.base_url)


def talk(url, data):
    """Everything that is answered to `data` until the server closes."""
    with socket.create_connection((url.host, url.port), timeout=10) as connection:
        connection.sendall(data)
        got = b""
        try:
            while part := connection.recv(65536):
                got += part
        except ConnectionResetError:
            pass  # closed with bytes of ours unread, after the answer
        return got


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"200"),
        (b"GET /health HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", b"400"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"414"),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 20_000 + b"\r\n\r\n", b"431"),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 200_000, b"431"),
        (b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 101 + b"\r\n", b"431"),
        (b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcde", b"400"),
        (b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nabcde", b"400"),
    ],
    ids=["good", "no-host", "two-hosts", "rubbish", "line", "field", "endless", "fields", "lengths", "smuggling"],
)
def test_the_listener_holds_http_to_its_limits(raw, head, status):
    answer = raw(head)
    assert answer.startswith(b"HTTP/1.1 " + status), answer[:200]


def test_pipelined_and_chunked_requests_are_answered_in_order(raw):
    chunked = b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = json.dumps({"state": OBSERVATION}).encode()
    chunks = b"%x\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n" % (4, body[:4], len(body) - 4, body[4:])
    end = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = raw(b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n" + chunked + chunks + end)
    assert re.findall(rb"HTTP/1.1 (\d+) ", answer) == [b"404", b"200", b"200"]


def test_expect_continue_is_answered(raw):
    body = json.dumps({"state": OBSERVATION}).encode()
    head = (
        b"POST /predict HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    )
    answer = raw(head % len(body) + body)
    assert b"200 OK" in answer


@pytest.mark.slow
def test_a_head_that_does_not_end_is_408(raw):
    for door in native():
        url = door.client.base_url
        with socket.create_connection((url.host, url.port), timeout=10) as connection:
            connection.sendall(b"GET /health HTTP/1.1\r\nHo")
            started = time.monotonic()
            assert connection.recv(4096).startswith(b"HTTP/1.1 408")
            assert 4 < time.monotonic() - started < 9


def test_keep_alive_serves_many_requests_on_one_connection(door):
    url = door.client.base_url
    connection = http.client.HTTPConnection(url.host, url.port, timeout=10)
    for _ in range(20):
        connection.request("POST", "/predict", json.dumps({"state": OBSERVATION}))
        response = connection.getresponse()
        assert response.status == 200
        response.read()
    connection.close()
