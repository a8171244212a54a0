"""The port that Serve's replica opens for itself, kept on loopback: the seam as this Ray has it, and when it is gone."""

import asyncio
import types

import pytest
from ray.serve._private import replica as serve_replica

from rlaas_ray.errors import WorkFailed
from rlaas_ray.serve import loopback

pytestmark = pytest.mark.ray


@pytest.fixture
def opened(monkeypatch):
    """Addresses that the helper under the seam was asked to open."""
    seen = []

    def helper(_server, address):
        seen.append(address)
        return 1

    monkeypatch.setattr(serve_replica, "add_port_to_grpc_server", helper)
    return seen


class Grpc:
    async def start(self):
        pass


def initialized():
    """Serve's own step that opens the port, on an object with as much as it needs."""

    async def nothing():
        pass

    server = types.SimpleNamespace(
        _maybe_start_direct_ingress_servers=nothing,
        _user_callable_wrapper=types.SimpleNamespace(user_callable=None),
        _set_internal_replica_context=lambda **_: None,
        _server=Grpc(),
        _initialization_latency=0.0,
    )
    asyncio.run(serve_replica.Replica._on_initialized(server))


@pytest.fixture(autouse=True)
def serve_around(monkeypatch):
    monkeypatch.setattr(serve_replica, "add_ASGIServiceServicer_to_server", lambda *_: None)
    monkeypatch.setattr(
        serve_replica.ray.serve.context, "_get_internal_replica_context", lambda: types.SimpleNamespace(rank=0)
    )


@pytest.mark.parametrize(
    ("node", "address"), [("127.0.0.1", "127.0.0.1:0"), ("10.0.0.7", "[::]:0"), ("fd00::1", "[::]:0")]
)
def test_serves_own_start_opens_the_port_on_loopback_where_ray_is_confined_to_it(opened, node, address):
    loopback.hold(node)
    loopback.hold(node)  # a replica that is started again in the same process
    initialized()
    assert opened == [address]


def test_a_ray_that_opens_the_port_in_another_way_gets_no_replica(monkeypatch):
    monkeypatch.setattr(serve_replica.Replica, "_on_initialized", lambda self: self.open_port("[::]:0"))
    with pytest.raises(WorkFailed, match=r"2\.60"):
        loopback.hold("127.0.0.1")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("[::]:0", "127.0.0.1:0"),
        ("0.0.0.0:8", "127.0.0.1:8"),
        ("[::1]:0", "[::1]:0"),
        ("localhost:1", "localhost:1"),
    ],
)
def test_only_hosts_that_are_not_loopback_are_replaced(given, kept):
    assert loopback.confined(given) == kept
