"""One act on pools, in a process of its own that imports Ray, does it and ends: apply, delete, shutdown or status.

Started by `pools.py` (`python -m rlaas_ray.serve.deployment ACT --address HOST:PORT`), so that the API holds no Ray driver: a
driver dies a minute after its head. Settings come on stdin, the result goes to stdout, both as one JSON line.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from typing import Any

import ray
from ray import serve

from rlaas_ray.serve import replica

APP = "policies"


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="rlaas_ray.serve.deployment", description=__doc__)
    parser.add_argument("act", choices=["apply", "delete", "shutdown", "status"])
    parser.add_argument("--pool", default="policies")
    parser.add_argument("--address", required=True, help="GCS address of the head; never guessed")
    told = parser.parse_args()
    ray.init(address=told.address, namespace="serve", log_to_driver=False, logging_level=logging.WARNING)
    try:
        result = _ACTS[told.act](told.pool)
    finally:
        ray.shutdown()
    sys.stdout.write(json.dumps(result) + "\n")


def app_name(pool: str) -> str:
    """Name of the pool's app: `policies` for the pool of that name, `pool-NAME` for others."""
    return APP if pool == APP else f"pool-{pool}"


def prefix(pool: str) -> str:
    """Where the app is mounted on Serve's ingress."""
    return "/" if pool == APP else f"/pools/{pool}"


def _apply(pool: str) -> Any:
    settings: dict[str, Any] = json.loads(sys.stdin.readline())
    ingress = settings.pop("ingress")
    replicas = settings.pop("replicas", 1)
    # The first Serve call of a cluster fixes these; later ones are ignored with one line of log.
    serve.start(http_options={"host": ingress["host"], "port": ingress["port"]}, proxy_location="HeadOnly")
    app = replica.application(settings, replicas=replicas)
    serve.run(app, name=app_name(pool), route_prefix=prefix(pool), blocking=False)
    return _status(pool)


def _delete(pool: str) -> Any:
    if app_name(pool) in serve.status().applications:
        serve.delete(app_name(pool))
    return _status(pool)


def _shutdown(_pool: str) -> Any:
    serve.shutdown()  # type: ignore[no-untyped-call]
    return {}


def _status(_pool: str) -> Any:
    return {name: str(app.status.value) for name, app in serve.status().applications.items()}


_ACTS = {"apply": _apply, "delete": _delete, "shutdown": _shutdown, "status": _status}


if __name__ == "__main__":
    main()
