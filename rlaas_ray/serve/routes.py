"""Route tables from the API into a running data plane: long-poll, load, warm up, swap one reference; and the copy on disk.

Run in a thread of its own by `listener.py` and `replica.py`. A table is taken only if its epoch is greater; one that cannot
be loaded leaves the endpoint as it was. With the API away the data plane goes on, also after a restart. Knows no Ray.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from rlaas_ray.errors import InvalidInput, NotBuilt, RlaasError, WorkFailed
from rlaas_ray.monitoring.metrics import ServingMetrics
from rlaas_ray.policies import spaces
from rlaas_ray.serve.keys import Keyring
from rlaas_ray.serve.state import EndpointState, ServingPolicy, State
from rlaas_ray.specs import routing
from rlaas_ray.specs.routing import RouteTable

POLL_S = 25.0
RETRY_S = (0.2, 0.5, 1.0, 2.0)
AFTER_FAILED_LOAD_S = 2.0
WATCH_S = 0.1
WARM_BATCHES = (1, 64)
WARM_FORWARDS = 20
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the API told: `GET /internal/routes`, also the form on disk."""

    epoch: int
    tables: tuple[RouteTable, ...]
    bundles: Mapping[str, str]
    keys: tuple[Mapping[str, Any], ...]
    pepper_path: str | None

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Told:
        """Raises InvalidInput for what is not such a document."""
        try:
            return cls(
                epoch=int(body["epoch"]),
                tables=tuple(routing.from_json(table) for table in body["tables"]),
                bundles={str(k): str(v) for k, v in body["bundles"].items()},
                keys=tuple(body.get("keys") or ()),
                pepper_path=body.get("pepper_path"),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidInput("routes of the API", given=str(error), expected="epoch, tables, bundles, keys") from None

    def to_json(self) -> dict[str, Any]:
        """JSON values; `from_json` gives them back."""
        return {
            "epoch": self.epoch,
            "tables": [table.to_json() for table in self.tables],
            "bundles": dict(self.bundles),
            "keys": list(self.keys),
            "pepper_path": self.pepper_path,
        }

    def joined(self, newer: Told) -> Told:
        """This with what a later answer brought: newest table of each endpoint, deleted ones gone."""
        tables = {table.endpoint: table for table in self.tables}
        for table in newer.tables:
            if table.endpoint not in tables or table.epoch > tables[table.endpoint].epoch:
                tables[table.endpoint] = table
        kept = tuple(table for table in tables.values() if not table.deleted)
        digests = {arm.digest for table in kept for arm in table.arms}
        bundles = {k: v for k, v in {**self.bundles, **newer.bundles}.items() if k in digests}
        epoch = max(self.epoch, newer.epoch)
        return Told(epoch=epoch, tables=kept, bundles=bundles, keys=newer.keys, pepper_path=newer.pepper_path)


NOTHING = Told(epoch=0, tables=(), bundles={}, keys=(), pepper_path=None)


class Routes:
    """Brings `publish` a new State whenever the API tells of one. `load` opens a bundle (`policies.bundle.load`)."""

    def __init__(
        self,
        *,
        pool: str,
        cache: Path,
        load: Callable[[Path], ServingPolicy],
        publish: Callable[[State], None],
        keys: Keyring,
        metrics: ServingMetrics,
        rng: np.random.Generator,
    ) -> None:
        self._pool = pool
        self._cache = cache / f"{pool}.json"
        self._load = load
        self._publish = publish
        self._keys = keys
        self._metrics = metrics
        self._rng = rng
        self._told = NOTHING
        self.state = State()
        self.failed: dict[str, str] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def read_cache(self) -> bool:
        """Take what the disk remembers. False when there is nothing, or nothing readable."""
        try:
            told = Told.from_json(json.loads(self._cache.read_bytes()))
        except FileNotFoundError:
            return False
        except (ValueError, OSError, InvalidInput) as error:
            _logger.warning("routes on disk are left alone: %s: %s", self._cache, error)
            return False
        self.take(told)
        return True

    def take(self, told: Told) -> State:
        """Load what is new and swap. Endpoints whose table cannot be loaded stay as they are; `failed` says why."""
        endpoints = dict(self.state.endpoints)
        failed: dict[str, str] = {}
        for table in told.tables:
            held = endpoints.get(table.endpoint)
            if held is not None and table.epoch <= held.table.epoch:
                continue
            if table.deleted:
                endpoints.pop(table.endpoint, None)
                continue
            try:
                endpoints[table.endpoint] = self._endpoint(table, bundles=told.bundles, held=held)
            except RlaasError as error:
                failed[table.endpoint] = f"epoch {table.epoch}: {error}"
                self._metrics.route_errors.labels(type(error).__name__).inc()
                _logger.error("table of %s is not taken: %s", table.endpoint, error)  # noqa: TRY400 (said in words)
        self.failed = failed
        # With a table refused the epoch stays: it is the cursor, and the API is to tell the refused one again.
        epoch = self.state.epoch if failed else max(told.epoch, self.state.epoch)
        self.state = State(epoch=epoch, ready=True, endpoints=endpoints)
        self._take_keys(told)
        self._publish(self.state)
        self._metrics.epoch.set(epoch)
        self._told = self._told.joined(told)
        return self.state

    def start(self, *, api: str, key: str, listener: str, pid: int) -> None:
        """Poll `api` in a thread until `stop`."""
        self._thread = threading.Thread(
            target=self._run, kwargs={"api": api, "key": key, "listener": listener, "pid": pid}, daemon=True
        )
        self._thread.start()

    def start_watching(self) -> None:
        """Read the file on disk whenever it changes, in a thread until `stop`: for a data plane without an API."""
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let the thread end; it may sit in a poll, so this does not wait for it."""
        self._stop.set()

    def _run(self, *, api: str, key: str, listener: str, pid: int) -> None:
        tries = 0
        headers = {"Authorization": f"Bearer {key}"}
        with httpx.Client(base_url=api, headers=headers, timeout=POLL_S + 10, trust_env=False) as client:
            while not self._stop.is_set():
                try:
                    self._poll(client, listener=listener, pid=pid)
                    tries = 0
                except (httpx.HTTPError, InvalidInput, WorkFailed, OSError) as error:
                    if tries == 0:
                        _logger.warning("the API tells no routes, going on with epoch %d: %s", self.state.epoch, error)
                    self._metrics.route_errors.labels("poll").inc()
                    self._stop.wait(RETRY_S[min(tries, len(RETRY_S) - 1)])
                    tries += 1

    def _watch(self) -> None:
        seen = -1
        while not self._stop.wait(WATCH_S):
            try:
                changed = self._cache.stat().st_mtime_ns
            except FileNotFoundError:
                continue
            if changed != seen and self.read_cache():
                seen = changed

    def _poll(self, client: httpx.Client, *, listener: str, pid: int) -> None:
        # Before the first answer: -1, so that the API answers at once even where the pool has no endpoint yet.
        after = self.state.epoch if self.state.ready else -1
        query: dict[str, str | int] = {"pool": self._pool, "after_epoch": after, "listener": listener, "pid": pid}
        if self.failed:
            query["failed"] = "; ".join(f"{name} {why}" for name, why in self.failed.items())[:500]
        response = client.get("/internal/routes", params=query)
        if response.status_code == 204:
            if not self.state.ready:
                self.take(NOTHING)
            return
        if response.status_code != 200:
            raise WorkFailed("routes", given=f"HTTP {response.status_code}", expected="200 or 204")
        self.take(Told.from_json(response.json()))
        if self.failed:
            self._stop.wait(AFTER_FAILED_LOAD_S)
        else:
            self._write_cache()

    def _write_cache(self) -> None:
        self._cache.parent.mkdir(parents=True, exist_ok=True)
        # A name of its own: two children of a replica write the same cache.
        temporary = self._cache.with_suffix(f".{os.getpid()}.part")
        temporary.write_text(json.dumps(self._told.to_json()), encoding="utf-8")
        temporary.chmod(0o600)
        temporary.rename(self._cache)

    def _take_keys(self, told: Told) -> None:
        pepper = b""
        if told.pepper_path is not None:
            try:
                pepper = Path(told.pepper_path).read_bytes()
            except OSError as error:
                _logger.error("pepper cannot be read, keys are refused: %s", error)  # noqa: TRY400 (said in words)
                self._keys.replace((), pepper=b"")
                return
        self._keys.replace(told.keys, pepper=pepper)

    def _endpoint(self, table: RouteTable, *, bundles: Mapping[str, str], held: EndpointState | None) -> EndpointState:
        policies = {arm.digest: self._policy(arm.digest, bundles=bundles) for arm in table.arms}
        champion = policies[table.champion.digest]
        for arm in table.arms:
            other = policies[arm.digest]
            same = other.observation_space == champion.observation_space
            if arm.role == "shadow" and other.state_size:
                raise NotBuilt(
                    f"a shadow arm with a memory, {arm.version}",
                    given=table.endpoint,
                    cure="A shadow has no token to remember by: make it a challenger with a small share.",
                )
            if not same or other.action_space != champion.action_space:
                raise InvalidInput(
                    f"spaces of arm {arm.name!r}",
                    given=f"{other.observation_space} -> {other.action_space}",
                    expected=f"the champion's: {champion.observation_space} -> {champion.action_space}",
                )
        inputs = spaces.encoded_size(champion.observation_space)
        width = inputs + len(table.preference)
        blind = (
            frozenset(digest for digest, policy in policies.items() if policy.size == inputs)
            if table.preference
            else frozenset()
        )
        _check_sizes(table, policies=policies, blind=blind, width=width)
        breakers = {} if held is None else {k: v for k, v in held.breakers.items() if k in policies}
        return EndpointState(table=table, policies=policies, width=width, breakers=breakers, blind=blind)

    def _policy(self, digest: str, *, bundles: Mapping[str, str]) -> ServingPolicy:
        for endpoint in self.state.endpoints.values():
            if digest in endpoint.policies:
                return endpoint.policies[digest]
        if digest not in bundles:
            raise InvalidInput("bundle of an arm", given=digest, expected="its path among `bundles`")
        try:
            policy = self._load(Path(bundles[digest].removeprefix("file://")))
        except OSError as error:
            raise WorkFailed(f"bundle {digest[:12]} cannot be read", given=str(error)) from None
        if policy.digest != digest:
            raise InvalidInput("bundle of an arm", given=policy.digest, expected=f"digest {digest}")
        self._warm(policy)
        return policy

    def _warm(self, policy: ServingPolicy) -> None:
        """First calls are slow (allocations, kernels): they happen here, off the loop, and must give finite numbers."""
        for rows in WARM_BATCHES:
            zeros = np.zeros((rows, policy.size), dtype=np.float32)
            finite = [np.isfinite(policy.decide(zeros, rng=self._rng).action).all() for _ in range(WARM_FORWARDS)]
            if not all(finite):
                raise WorkFailed(f"bundle {policy.digest[:12]} gives actions that are not finite at warm-up")


def _check_sizes(
    table: RouteTable, *, policies: Mapping[str, ServingPolicy], blind: frozenset[str], width: int
) -> None:
    """Each policy observes the whole row, or is the fallback and observes no preference. Raises InvalidInput."""
    for arm in table.arms:
        size = policies[arm.digest].size
        if size == width or (arm.role == "fallback" and arm.digest in blind):
            continue
        raise InvalidInput(
            f"preference of endpoint {table.endpoint!r}",
            given=f"arm {arm.name!r} observes {size} numbers",
            expected=f"{width}, of which {len(table.preference)} are weights",
            cure="Give the endpoint policies that are conditioned on the same objectives.",
        )
