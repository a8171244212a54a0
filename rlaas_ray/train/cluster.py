"""The Ray that a training runs on: the one whose address it was given, or a small one of its own, started and ended here.

Called by runner.py. Never attaches to a cluster that it finds by itself, never ends one that it did not start.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
from ray import _raylet
from ray._private import ray_constants

from rlaas_ray.train import worlds
from rlaas_ray.train.plans import Plan

OBJECT_STORE_BYTES = 150_000_000
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@contextlib.contextmanager
def connected(plan: Plan, *, address: str | None) -> Iterator[float]:
    """The Ray of one training; gives the CPUs that each actor may ask for."""
    with joined(plan.num_env_runners + plan.num_learners, name=plan.env, address=address) as share:
        yield share


@contextlib.contextmanager
def joined(actors: int, *, name: str, address: str | None) -> Iterator[float]:
    """A Ray for so many actors, which need the module of `name` where that is a user's `module:Class`; gives their CPUs."""
    if ray.is_initialized():
        yield _share(actors)
    elif address is not None:
        module = worlds.module_of(name)  # a user's module goes with the job; what is installed is expected there
        _init(
            address=address,
            logging_level=logging.ERROR,
            log_to_driver=False,
            runtime_env={
                "env_vars": dict.fromkeys(_THREADS, "1"),
                **({} if module is None else {"py_modules": [str(module)]}),  # an empty list fails every actor (2.60.0)
            },
        )
        try:
            yield _share(actors)
        finally:
            ray.shutdown()
    else:
        with _own(actors):
            yield 1.0


@contextlib.contextmanager
def _own(actors: int) -> Iterator[None]:
    # Unix socket names are limited to 107 bytes and Ray appends about 70: the folder's path must be short.
    folder = Path(tempfile.mkdtemp(prefix="rlaas-", dir="/tmp"))  # 0700, random name
    token = folder / "token"
    descriptor = os.open(token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(descriptor, secrets.token_hex(32).encode())
    os.close(descriptor)
    wanted = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # the only switch that keeps every socket on loopback
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",  # workers otherwise run at nice 15
        **dict.fromkeys(_THREADS, "1"),
    }
    added = {name: value for name, value in wanted.items() if name not in os.environ}  # noqa: TID251  # writes, reads nothing
    before = ray_constants.ENABLE_RAY_CLUSTER
    os.environ.update(added)  # noqa: TID251  # Ray's processes take these from their parent
    ray_constants.ENABLE_RAY_CLUSTER = False  # read at import, which was before
    _read_again()
    try:
        _init(
            address="local",
            num_cpus=max(2, actors),
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            _temp_dir=str(folder),
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
        yield
    finally:
        ray.shutdown()
        ray_constants.ENABLE_RAY_CLUSTER = before
        for name in added:
            os.environ.pop(name, None)  # noqa: TID251  # as it was
        _read_again()
        shutil.rmtree(folder, ignore_errors=True)


def _init(**options: Any) -> None:
    """`ray.init` that leaves SIGTERM to us: Ray's own handler would exit at once, and a stop means checkpoint first."""
    ours = signal.getsignal(signal.SIGTERM)
    ray.init(**options)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, ours)


def _read_again() -> None:
    """Ray's core keeps what it read of the environment first; its own way to switch authentication on is this."""
    _raylet.Config.initialize("")  # type: ignore[attr-defined]
    _raylet.AuthenticationTokenLoader.instance().reset_cache()  # type: ignore[attr-defined]


def _share(actors: int) -> float:
    """A CPU each where there are enough; else equal parts of what is free, so that a training on a small cluster starts at all.

    Where nothing is free, nothing is asked for: beside another training it is slow, where one hundredth would wait for its end.
    """
    free = float(ray.available_resources().get("CPU", 0.0))  # type: ignore[no-untyped-call]
    return 1.0 if free >= actors else int(100 * free / max(1, actors)) / 100
