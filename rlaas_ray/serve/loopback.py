"""Keeps the gRPC port of a Serve replica on loopback. Called by `replica.py` before Serve opens it; does nothing else.

Serve 2.60 opens in each replica a server for calls between deployments, on `[::]:0` (`Replica._on_initialized` in
ray/serve/_private/replica.py), and what it reads there it unpickles: on a machine whose Ray is to stay on loopback, a port on
every interface that runs what it is sent. No setting moves it. Serve's callers dial the node's address: where that is loopback
the port is confined to it. Where Ray spans machines the port stays as it is: other nodes call it, and the network around them
is its guard.
"""

from __future__ import annotations

import ipaddress
from typing import Any

from ray.serve._private import replica as serve_replica

from rlaas_ray.errors import WorkFailed

_SEAM = "add_port_to_grpc_server"


def hold(node: str) -> None:
    """From now on this process's Serve replica opens its port on 127.0.0.1, if `node`, Ray's address of this node, is loopback.

    Raises WorkFailed where this Ray opens the port in another way than 2.60 does: no replica is better than an open port.
    """
    if not _is_loopback(node):
        return
    opened: Any = getattr(serve_replica, _SEAM, None)
    opener: Any = getattr(getattr(serve_replica, "Replica", None), "_on_initialized", None)
    if opened is None or opener is None or _SEAM not in opener.__code__.co_names:
        raise WorkFailed(
            "Serve's replica opens its gRPC port in another way than it did in Ray 2.60",
            expected=f"ray.serve._private.replica.Replica._on_initialized calling {_SEAM}",
            cure="Use the Ray version of constraints.txt, or bring rlaas_ray/serve/loopback.py up to this one.",
        )
    if getattr(opened, "on_loopback", False):
        return

    def on_loopback(server: Any, address: str) -> Any:
        return opened(server, confined(address))

    on_loopback.on_loopback = True  # type: ignore[attr-defined]
    setattr(serve_replica, _SEAM, on_loopback)


def confined(address: str) -> str:
    """`HOST:PORT` with 127.0.0.1 in place of a host that is not loopback."""
    host, _, port = address.rpartition(":")
    return address if _is_loopback(host.strip("[]")) else f"127.0.0.1:{port}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
