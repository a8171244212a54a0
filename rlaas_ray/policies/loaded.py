"""LoadedPolicy: a policy ready to decide, learned or built-in, whatever engine computes it.

Made by `bundle.load` and `bundle.in_memory`; called by replicas (`decide`), evaluation and users (`act`). `decide` is on the
hot path of serving: no copies that it can spare. Never logs, never reads a clock; chance comes in as `rng`.

A policy with a memory decides from a state that its caller keeps: `initial_state` starts an episode, `Drawn.state` goes on.

`n` rows, `d` encoded entries, `k` head parameters, `a` action entries, `m` probabilities, `s` entries of a state.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from rlaas_ray.errors import EngineFailed, InvalidInput
from rlaas_ray.policies import decoders, heads, spaces
from rlaas_ray.policies.manifest import Manifest
from rlaas_ray.policies.preferences import Given, Preference
from rlaas_ray.specs.arrays import F32, F64, Array, Bool
from rlaas_ray.specs.seams import Policy, Recurrent

UNITS = 10_000  # whose states `act` keeps; the one that was not asked for longest is forgotten first


@dataclass(slots=True, kw_only=True, eq=False)
class Drawn:
    """One decision per row. Not frozen: setting five frozen fields costs as much as a small layer of the network."""

    action_proposed: F64  # (n, a), as drawn
    action: F64  # (n, a), as executed, in the env's units
    propensity: F64  # (n,), of the proposed action
    probabilities: F64 | None  # (n, m) where actions are countable
    state: F32 | None = None  # (n, s), for the next decision of the same episodes; None without a memory


class LoadedPolicy:
    """Encode, compute, draw, decode."""

    def __init__(
        self,
        *,
        manifest: Manifest,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        head: heads.Head,
        decoder: decoders.Decoder,
        engine: Policy,
        engine_name: str,
        state_size: int = 0,
    ) -> None:
        self.manifest = manifest
        self.digest = manifest.digest
        self.observation_space = observation_space
        self.action_space = action_space
        self.head = head
        self.decoder = decoder
        self.serving = manifest.serving
        self.engine_name = engine_name
        self._engine = engine
        self.state_size = state_size
        self._states: OrderedDict[str | None, F32] = OrderedDict()
        self._weights: F32 | None = None  # (m,), or (n, m) for batches of n
        if self.preference is not None:
            self._weights = self.preference.weights_of(None).astype(np.float32)
        self._own_rng = np.random.default_rng(manifest.seed)

    @property
    def size(self) -> int:
        """Entries d of an encoded observation."""
        return self.manifest.encoder.size

    @property
    def preference(self) -> Preference | None:
        """What the weights are that this policy observes besides its observation; None for one that observes none."""
        return self.manifest.preference

    @property
    def weights(self) -> F32 | None:
        """The weights (m,), or (n, m) by row, that `encode` appends."""
        return self._weights

    def preferring(self, given: Given | F64) -> LoadedPolicy:
        """The same policy under other weights: by name, (m,) in order, or (n, m) for batches of n rows. Remembers no unit.

        Raises InvalidInput for what are not weights of its objectives, and for a policy without a preference.
        """
        if self.preference is None:
            raise InvalidInput(
                f"preference for {self.manifest.name!r}",
                given=given,
                expected="none: this policy is not conditioned on weights",
                cure="Train one with `preference: conditioned`.",
            )
        if isinstance(given, np.ndarray) and given.ndim == 2:
            weights = np.stack([self.preference.weights_of(row) for row in given])
        else:
            weights = self.preference.weights_of(cast("Given", given))
        other = copy.copy(self)
        other._weights, other._states = weights.astype(np.float32), OrderedDict()  # noqa: SLF001 - its own copy
        return other

    def encode(self, observations: Any) -> F32:
        """Rows (n, d) of a trusted raw batch (an env's), followed by the weights of a preference."""
        rows = spaces.encode(self.observation_space, observations)
        return rows if self._weights is None else self._weighted(rows)

    def encode_one(self, observation: Any) -> F32:
        """Row (d,) of one untrusted observation; raises BadObservation."""
        row = spaces.encode_one(self.observation_space, observation)
        return row if self._weights is None else self._weighted(row[None])[0]

    def action_mask(self, observations: Any) -> Bool | None:
        """Masks (n, m) of a raw batch, None where the space has none; hand them to `decide`."""
        return spaces.action_mask(self.observation_space, observations)

    def initial_state(self, n: int) -> F32:
        """States (n, s) at the start of an episode; s is 0 for a policy without a memory."""
        return np.zeros((n, self.state_size), dtype=np.float32)

    def distribution(self, observations: F32) -> F32:
        """Head parameters (n, k) of encoded observations (n, d). Raises EngineFailed where they are not finite.

        With a memory these are those of an episode's first step; `step` goes on.
        """
        return self._finite(self._engine.distribution(observations))

    def step(self, observations: F32, state: F32) -> tuple[F32, F32]:
        """Head parameters (n, k) and states after them, of observations (n, d) and states (n, s); with a memory only."""
        if state.shape != (len(observations), self.state_size):
            raise InvalidInput(
                "state of a policy",
                given=state.shape,
                expected=f"({len(observations)}, {self.state_size})",
                cure="Start with `initial_state(n)` and hand in each decision's `.state`.",
            )
        params, after = cast("Recurrent", self._engine).step(observations, state)
        return self._finite(params), after

    def _weighted(self, rows: F32) -> F32:
        assert self._weights is not None
        if self._weights.ndim == 2 and len(self._weights) != len(rows):
            raise InvalidInput(
                "a batch under weights by row", given=f"{len(rows)} rows", expected=f"{len(self._weights)}"
            )
        weights = np.broadcast_to(self._weights, (len(rows), self._weights.shape[-1]))
        return np.concatenate([rows, weights], axis=1)

    def _finite(self, params: F32) -> F32:
        if not np.isfinite(params).all():
            raise EngineFailed(
                f"engine {self.engine_name} of {self.manifest.name!r} gave numbers that are not finite",
                given=f"digest {self.digest[:12]}",
                expected="finite head parameters",
                cure="`rlaas models verify` shows whether the bundle is whole; roll back to another version.",
            )
        return params

    def decide(
        self, encoded: F32, *, rng: np.random.Generator, mask: Bool | None = None, state: F32 | None = None
    ) -> Drawn:
        """One decision for each encoded observation (n, d). `mask` (n, m): actions that may be taken, for logits.

        `state` (n, s) is what the decision before gave; None starts an episode.
        """
        if self.state_size:
            params, state = self.step(encoded, self.initial_state(len(encoded)) if state is None else state)
        else:
            params, state = self.distribution(encoded), None
        if mask is not None:
            params = heads.masked(params, mask)
        draw = heads.draw(self.head, params, serving=self.serving, rng=rng)
        return Drawn(
            action_proposed=draw.proposed,
            action=self.decoder.decode(draw.proposed, observations=encoded),
            propensity=draw.propensity,
            probabilities=draw.probabilities,
            state=state,
        )

    def action_to_json(self, action: F64) -> int | list[Any]:
        """One action row (a,) as JSON values."""
        return spaces.action_to_json(self.action_space, action)

    def act(self, observation: Any, *, unit: str | None = None) -> Any:
        """What `env.step` takes, for one raw observation; sampled from a stream of the bundle's seed.

        `unit` names who is decided for: a policy with a memory goes on from that unit's last decision until `reset(unit)`. It
        remembers the UNITS most recent ones.
        """
        encoded = self.encode_one(observation)[None, :]
        state = self._states.pop(unit, None)
        drawn = self.decide(encoded, rng=self._own_rng, mask=self.action_mask([observation]), state=state)
        if drawn.state is not None:
            self._states[unit] = drawn.state
            if len(self._states) > UNITS:
                self._states.popitem(last=False)
        batch: Array = spaces.actions(self.action_space, drawn.action)
        return batch[0]

    def reset(self, unit: str | None = None) -> None:
        """The unit's next `act` starts an episode."""
        self._states.pop(unit, None)
