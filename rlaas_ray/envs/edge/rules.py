"""Rules that operators run: the HPA with the Kubernetes scheduler, and a greedy one that knows where the users are.

Called by the baselines of every instance. They see the encoded observation alone; what they remember is the 300 s window of the
HPA's recommendations. Their wishes are logits, 1000 apart, so that an action mask picks the best wish that is allowed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from rlaas_ray.envs.edge import config, macro, observation, scheduler
from rlaas_ray.policies import heads
from rlaas_ray.specs.arrays import F32, F64, Bool

WINDOW_S = 300.0
_APART = 1000.0  # between two wishes: the softmax of the second is exactly 0
_UP, _DOWN = 3e6, 2e6  # a start comes before a removal, a removal before a move
_BY_SERVICE = 1e4


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Never acts."""

    instance: config.Instance

    @property
    def head(self) -> heads.Head:
        """Logits."""
        return heads.Categorical(n=self.instance.actions)

    def distribution(self, observations: F32) -> F32:
        """Everything on number 0."""
        wish = np.full((len(observations), self.instance.actions), -np.inf)
        wish[:, 0] = 0.0
        return logits(wish)


@dataclass(frozen=True, slots=True, kw_only=True)
class Autoscaler:
    """How many pods: the HPA. Where: the scheduler's scores, or (`nearest`) the least mean round trip of the users.

    One operation a step, starts first, the service with the largest relative gap first. With `nearest` and nothing to scale, the
    move that saves most round trip where it saves more than `gain` ms.
    """

    instance: config.Instance
    target: float
    gain: float = 8.0
    nearest: bool = False
    rtt: F64 = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        table = np.asarray([node.rtt_ms for node in self.instance.nodes], dtype=np.float64).T
        object.__setattr__(self, "rtt", table)

    @property
    def head(self) -> heads.Head:
        """Logits."""
        return heads.Categorical(n=self.instance.actions)

    @property
    def window(self) -> int:
        """Recommendations that a scale-down looks back on, this one among them."""
        return max(1, round(WINDOW_S / self.instance.dt_s))

    @property
    def state_size(self) -> int:
        """The recommendations before this one, by service."""
        return (self.window - 1) * len(self.instance.services)

    def distribution(self, observations: F32) -> F32:
        """The first step of an episode."""
        params, _ = self.step(observations, np.zeros((len(observations), self.state_size), np.float32))
        return params

    def step(self, observations: F32, state: F32) -> tuple[F32, F32]:
        """Logits (n, A), and the recommendations of the window."""
        services = len(self.instance.services)
        seen = observation.read(observations, instance=self.instance)
        ready, starting = seen.run.sum(axis=2), seen.starting.sum(axis=2)
        rate = np.asarray([one.rate for one in self.instance.services])
        wanted, calm = scheduler.desired(ready, seen.rate.sum(axis=2), rate=rate, target=self.target)
        pods = ready + starting
        wanted = np.clip(np.where(calm, pods, wanted), 1.0, float(self.instance.most_pods))
        past = np.concatenate((state, wanted.astype(np.float32)), axis=1)
        most = past.reshape(len(past), -1, services).max(axis=1).astype(np.float64)
        wish = self._wish(seen, up=wanted - pods, down=pods - most, pods=pods)
        return logits(wish), past[:, services:]

    def _wish(self, seen: observation.Seen, *, up: F64, down: F64, pods: F64) -> F64:
        count, services = up.shape
        wish = np.full((count, self.instance.actions), -np.inf)
        wish[:, 0] = 0.0
        size = np.maximum(pods, 1.0)
        scale_up, scale_down = _ranked(up / size), _ranked(down / size)
        place_at, remove_at = self._where(seen)
        for service in range(services):
            place, remove, _ = macro.numbers(self.instance, service)
            for numbers, gap, order, base, liked in (
                (place, up, scale_up, _UP, place_at),
                (remove, down, scale_down, _DOWN, remove_at),
            ):
                worth = base - _BY_SERVICE * order[:, service, None] + liked[:, service]
                wish[:, numbers] = np.where(gap[:, service, None] > 0.0, worth, -np.inf)
        if self.nearest:
            self._add_moves(wish, seen, idle=np.maximum(up, down).max(axis=1) <= 0.0)
        return wish

    def _where(self, seen: observation.Seen) -> tuple[F64, F64]:
        """How much a node is liked for a start and for a removal, (n, S, N) each, below 1e4."""
        if self.nearest:
            distance = macro.mean_rtt(seen.rate, self.rtt)
            return -distance, distance
        held = (seen.run + seen.starting).astype(np.int64)
        return scheduler.scores(self.instance, held, cache=seen.cache).astype(np.float64), seen.run

    def _add_moves(self, wish: F64, seen: observation.Seen, *, idle: Bool) -> None:
        distance = macro.mean_rtt(seen.rate, self.rtt)
        nodes = len(self.instance.nodes)
        source, target = np.nonzero(~np.eye(nodes, dtype=np.bool_))
        for service in range(len(self.instance.services)):
            _, _, move = macro.numbers(self.instance, service)
            saved = distance[:, service, source] - distance[:, service, target]
            good = idle[:, None] & (saved > self.gain) & (seen.run[:, service, source] > 0.0)
            wish[:, move] = np.where(good, saved, -np.inf)


def logits(wish: F64) -> F32:
    """Wishes (n, A) as logits: the highest 0, each next one 1000 less; equal wishes by index; -inf is no wish at all."""
    order = np.argsort(-wish, axis=1, kind="stable")
    rank = np.empty_like(wish)
    np.put_along_axis(rank, order, np.arange(wish.shape[1], dtype=np.float64)[None, :], axis=1)
    return np.asarray(-_APART * rank, dtype=np.float32)


def _ranked(gap: F64) -> F64:
    """0 for the service with the largest gap, then 1, and so on (n, S); equal ones by index."""
    order = np.argsort(-gap, axis=1, kind="stable")
    rank = np.empty_like(gap)
    np.put_along_axis(rank, order, np.arange(gap.shape[1], dtype=np.float64)[None, :], axis=1)
    return rank
