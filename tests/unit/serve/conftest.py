"""A policy that a test can read, and an Answerer around it."""

import os
from dataclasses import dataclass

import gymnasium
import numpy as np
import orjson
import pytest

from rlaas_ray.data.decision_log import ArrowDecisionLog
from rlaas_ray.monitoring.metrics import ServingMetrics
from rlaas_ray.serve.answer import Answerer
from rlaas_ray.serve.keys import Keyring
from rlaas_ray.serve.state import EndpointState, State
from rlaas_ray.serve.wire import Request
from rlaas_ray.serve.writer import DecisionWriter
from rlaas_ray.specs.routing import BUCKETS, Arm, RouteTable
from rlaas_ray.testing.clock import ManualClock


@dataclass
class Drawn:
    action_proposed: np.ndarray
    action: np.ndarray
    propensity: np.ndarray
    probabilities: np.ndarray | None
    state: np.ndarray | None = None


class Constant:
    """Proposes `value`, executes 10 * value; propensity 0.5. Takes `seconds` of the clock, raises when told, or gives NaN.

    NaN comes where the first number of a row is `nan_at`.
    """

    state_size = 0

    def __init__(self, value, *, digest, width=3, clock=None):
        self.value, self.digest, self.clock = value, digest, clock
        self.size = width
        self.observation_space = gymnasium.spaces.Box(-1, 1, (width,), np.float32)
        self.action_space = gymnasium.spaces.Box(-10, 10, (2,), np.float32)
        self.calls, self.raises, self.seconds, self.nan_at = [], False, 0.0, None

    def decide(self, encoded, *, rng, mask=None):
        self.calls.append(encoded)
        if self.clock is not None:
            self.clock.advance(self.seconds)
        if self.raises:
            raise RuntimeError("engine down")
        n = len(encoded)
        proposed = np.full((n, 2), float(self.value))
        if self.nan_at is not None:
            proposed[np.isclose(encoded[:, 0], self.nan_at)] = np.nan
        return Drawn(proposed, proposed * 10, np.full(n, 0.5), None)

    def action_to_json(self, action):
        return action.tolist()


def a_table(**more):
    share = more.pop("share", 0.0)
    arms = [
        Arm(name="champion", role="champion", version="ran-ppo:2", digest="d-champion"),
        Arm(name="fallback", role="fallback", version="hold:1", digest="d-fallback"),
    ]
    if share:
        ranges = ((0, round(share * BUCKETS)),)
        arms.append(
            Arm(name="challenger", role="challenger", version="ran-ppo:3", digest="d-challenger", ranges=ranges)
        )
    arms.extend(more.pop("arms", ()))
    fields = {
        "endpoint": "cells",
        "epoch": 7,
        "pool": "policies",
        "arms": tuple(arms),
        "salt": "exp-1:layer-0",
        "assign_by": "unit",
        "holdout_buckets": 0,
        "reward_low": 0.0,
        "reward_high": 1.0,
        "gamma": 1.0,
        "reward_deadline_s": 60.0,
        "deadline_ms": 250,
        "durability": "process",
        "on_full": "answer",
    }
    return RouteTable(**(fields | more))


class World:
    """An Answerer, its policies by arm name, its clock, metrics and log."""

    def __init__(self, root):
        self.clock = ManualClock()
        self.metrics = ServingMetrics()
        self.disk_works = True

        def write(descriptor, data):
            if not self.disk_works:
                raise OSError(28, "No space left on device")
            return os.write(descriptor, data)

        self.writer = DecisionWriter(root, nonce="nonce00000", clock=self.clock, metrics=self.metrics, write=write)
        self.keys = Keyring(mode="loopback")
        self.answerer = Answerer(
            writer=self.writer,
            keys=self.keys,
            nonce="nonce00000",
            rng=np.random.default_rng(0),
            clock=self.clock,
            metrics=self.metrics,
        )
        self.log = ArrowDecisionLog(str(root))
        values = {"champion": 0.1, "fallback": 0.2, "challenger": 0.3, "shadow": 0.4}
        self.policies = {name: Constant(v, digest=f"d-{name}", clock=self.clock) for name, v in values.items()}

    def serve(self, *tables):
        endpoints = {}
        for table in tables:
            held = {arm.digest: self.policies[arm.digest.removeprefix("d-")] for arm in table.arms}
            endpoints[table.endpoint] = EndpointState(table=table, policies=held, width=3)
        self.answerer.state = State(epoch=7, ready=True, endpoints=endpoints)

    def request(self, path, body=None, *, method=None, headers=None, local=True):
        data = body if isinstance(body, bytes) else (b"" if body is None else orjson.dumps(body))
        return Request(
            method=method or ("GET" if body is None else "POST"),
            path=path,
            headers=headers or {},
            body=data,
            arrived_s=self.clock.monotonic_s(),
            local=local,
        )

    def ask(self, path, body=None, **more):
        answer = self.answerer.handle([self.request(path, body, **more)])[0]
        return (
            answer.status,
            (orjson.loads(answer.body) if answer.body[:1] in b"{[" else answer.body),
            dict(answer.headers),
        )

    def decide(self, **more):
        return self.ask("/v1/endpoints/cells/decisions", {"unit": "cell-7", "observation": [0.1, 0.2, 0.3], **more})

    def rows(self):
        return self.log.read("cells", after={})[0]


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    made.serve(a_table())
    yield made
    made.disk_works = True
    made.writer.close()


@pytest.fixture
def table():
    return a_table
