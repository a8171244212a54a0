"""A rollout with live traffic while everything around it is killed: nothing acknowledged is lost, one verdict at its end."""

import contextlib
import itertools
import os
import random
import signal
import threading
import time

import httpx
import pytest

from rlaas_ray.cli import runtime
from rlaas_ray.data.decision_log import ArrowDecisionLog
from rlaas_ray.testing import bundles

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(400)]
BATCH, PAUSE_S = 32, 0.4


class Traffic(threading.Thread):
    """Batches of decisions for new units, and their rewards; keeps what was acknowledged. `harm` is what the challenger costs."""

    def __init__(self, machine) -> None:
        super().__init__(daemon=True)
        self.decided: dict[
            str, int
        ] = {}  # acknowledged decision -> the epoch that it was made in, in the order of answers
        self.rewarded: set[str] = set()
        self.harm = 0.0
        self.batches = 0
        self.refused = 0
        self.odd: list[tuple[int, str]] = []
        self._ended = threading.Event()
        self._native = f"http://127.0.0.1:{machine.port + 2}/v1/endpoints/cells"
        self._api = f"{machine.url}/v1/endpoints/cells"
        self._key = machine.key()

    def run(self) -> None:
        luck = random.Random(5)
        for number in itertools.count():
            if self._ended.wait(PAUSE_S):
                return
            # Turn about: the listener itself, and the control API in front of it.
            bases = [self._native, self._api] if number % 2 else [self._api, self._native]
            asked = [{"unit": f"cell-{number}-{i}", "observation": [0.1, 0.2, 0.3, 0.4]} for i in range(BATCH)]
            answered = self._post(bases, "decisions", asked)
            if answered is None:
                continue
            logged = [item for item in answered["batch"] if item["logged"]]
            self.decided.update({item["decision_id"]: item["epoch"] for item in logged})
            worth = {"champion": 0.7, "challenger": 0.7 - self.harm}
            paid = [
                {
                    "decision_id": item["decision_id"],
                    "reward": worth[item["arm"]] + luck.uniform(-0.1, 0.1),
                    "done": True,
                }
                for item in logged
            ]
            told = self._post(bases, "rewards", paid)
            if told is not None and not told["rejected"]:
                self.rewarded |= {item["decision_id"] for item in paid}
            self.batches += 1

    def stop(self) -> None:
        self._ended.set()
        self.join(20)

    def _post(self, bases, verb, items):
        """The first answer, each door tried twice; None when nobody answers."""
        for base in (*bases, *bases):
            try:
                answer = httpx.post(
                    f"{base}/{verb}", json={"batch": items}, headers=self._key, timeout=5, trust_env=False
                )
            except httpx.HTTPError:
                self.refused += 1
                time.sleep(0.1)
                continue
            if answer.is_success:
                return answer.json()
            if answer.status_code not in {429, 502, 503}:
                self.odd.append((answer.status_code, answer.text))
            self.refused += 1
            time.sleep(0.1)
        return None


@pytest.fixture
def rollout(machine):
    """An endpoint with a rollout of an equal challenger at 50 %, under traffic."""
    for name, seed in (("old", 1), ("new", 2)):
        bundles.a_bundle(machine.home / name, seed=seed)
        machine.rlaas("models", "import", str(machine.home / name), "--name", name)
    # A decision whose answer was lost with its process gets no reward: those behind it wait for its deadline.
    machine.rlaas("serve", "cells", "old", "--set", "reward.deadline_s=5")
    traffic = Traffic(machine)
    traffic.start()
    machine.until(lambda: len(traffic.rewarded) > 200, seconds=20, what="traffic before the rollout")
    told = machine.told("rollout", "start", "cells", "new", "--share", "50%", "--set", "min_time_s=3600")
    yield traffic, told["id"]
    traffic.stop()


def kill(machine, traffic, pids) -> float:
    """SIGKILL, then seconds until two more batches were decided and rewarded."""
    assert pids
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    before = traffic.batches
    return machine.until(lambda: traffic.batches >= before + 2, seconds=25, what="decisions after a kill")


def listening(machine) -> set[int]:
    holder = runtime.listener(machine.port + 2)
    return {int(holder.split()[1])} if holder else set()


def test_a_rollout_outlives_every_part_and_ends_with_its_verdict_once(machine, rollout) -> None:
    traffic, rollout_id = rollout
    path = f"{machine.url}/api/v1/endpoints/cells/rollouts/{rollout_id}"
    parts = {
        "listener": lambda: listening(machine),
        "replica": lambda: machine.pids("ray::ServeReplica"),
        "proxy": lambda: machine.pids("ray::ProxyActor"),
        "controller": lambda: machine.pids("ray::ServeController"),
        "API": lambda: {machine.child("api").pid},
    }
    took = {name: kill(machine, traffic, find()) for name, find in parts.items()}
    print("two batches after the kill of", {name: round(seconds, 1) for name, seconds in took.items()})
    machine.until(lambda: runtime.healthy(machine.port), seconds=15, what="the API")
    seen = httpx.get(path, headers=machine.key(), timeout=10).json()
    assert (seen["state"], seen["verdict"]["kind"]) == ("ramping", "hold")

    traffic.harm = 0.5
    ended = machine.until(
        lambda: httpx.get(path, headers=machine.key(), timeout=10).json()["state"] == "rolled_back",
        seconds=30,
        what="the verdict on a challenger that turned bad",
    )
    print(f"rolled back {ended:.1f} s after it turned bad")
    time.sleep(2 * PAUSE_S)
    traffic.stop()
    assert traffic.odd == []

    decisions, rewards, _ = ArrowDecisionLog(str(machine.home)).read("cells", after={})
    assert len(traffic.decided) > 500
    assert set(traffic.decided) - set(decisions.decision_id) == set()
    assert traffic.rewarded - set(rewards.decision_id) == set()
    epochs = list(traffic.decided.values())
    assert epochs == sorted(epochs)  # of a client that asks one thing after another
    assert len(set(epochs)) == 3  # before, during, after

    items = httpx.get(f"{path}/evidence", params={"limit": 1000}, headers=machine.key(), timeout=10).json()["items"]
    acting = [item for item in items if item["verdict"]["kind"] != "hold"]
    assert [item["verdict"]["kind"] for item in acting] == ["roll_back"]
    assert [item["seq"] for item in items] == list(range(items[0]["seq"], items[0]["seq"] + len(items)))
    audit = httpx.get(f"{machine.url}/api/v1/audit", params={"limit": 200}, headers=machine.key(), timeout=10).json()
    told = [row for row in audit["items"] if row["object"] == f"rollout:{rollout_id}"]
    print([row["action"] for row in told])
    assert len(told) == 2
