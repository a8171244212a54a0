"""LoadedPolicy: a policy ready to decide, learned or built-in, whatever engine computes it.

Made by `bundle.load` and `bundle.in_memory`; called by replicas (`decide`), evaluation and users (`act`). `decide` is on the
hot path of serving: no copies that it can spare. Never logs, never reads a clock; chance comes in as `rng`.

`n` rows, `d` encoded entries, `k` head parameters, `a` action entries, `m` probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlaas_ray.errors import EngineFailed
from rlaas_ray.policies import decoders, heads, spaces
from rlaas_ray.policies.manifest import Manifest
from rlaas_ray.specs.arrays import F32, F64, Array, Bool
from rlaas_ray.specs.seams import Policy


@dataclass(slots=True, kw_only=True, eq=False)
class Drawn:
    """One decision per row. Not frozen: setting four frozen fields costs as much as a small layer of the network."""

    action_proposed: F64  # (n, a), as drawn
    action: F64  # (n, a), as executed, in the env's units
    propensity: F64  # (n,), of the proposed action
    probabilities: F64 | None  # (n, m) where actions are countable


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
        self._own_rng = np.random.default_rng(manifest.seed)

    @property
    def size(self) -> int:
        """Entries d of an encoded observation."""
        return self.manifest.encoder.size

    def encode(self, observations: Any) -> F32:
        """Rows (n, d) of a trusted raw batch (an env's)."""
        return spaces.encode(self.observation_space, observations)

    def encode_one(self, observation: Any) -> F32:
        """Row (d,) of one untrusted observation; raises BadObservation."""
        return spaces.encode_one(self.observation_space, observation)

    def action_mask(self, observations: Any) -> Bool | None:
        """Masks (n, m) of a raw batch, None where the space has none; hand them to `decide`."""
        return spaces.action_mask(self.observation_space, observations)

    def distribution(self, observations: F32) -> F32:
        """Head parameters (n, k) of encoded observations (n, d). Raises EngineFailed where they are not finite."""
        params = self._engine.distribution(observations)
        if not np.isfinite(params).all():
            raise EngineFailed(
                f"engine {self.engine_name} of {self.manifest.name!r} gave numbers that are not finite",
                given=f"digest {self.digest[:12]}",
                expected="finite head parameters",
                cure="`rlaas models verify` shows whether the bundle is whole; roll back to another version.",
            )
        return params

    def decide(self, encoded: F32, *, rng: np.random.Generator, mask: Bool | None = None) -> Drawn:
        """One decision for each encoded observation (n, d). `mask` (n, m): actions that may be taken, for logits."""
        params = self.distribution(encoded)
        if mask is not None:
            params = heads.masked(params, mask)
        draw = heads.draw(self.head, params, serving=self.serving, rng=rng)
        return Drawn(
            action_proposed=draw.proposed,
            action=self.decoder.decode(draw.proposed, observations=encoded),
            propensity=draw.propensity,
            probabilities=draw.probabilities,
        )

    def action_to_json(self, action: F64) -> int | list[Any]:
        """One action row (a,) as JSON values."""
        return spaces.action_to_json(self.action_space, action)

    def act(self, observation: Any, *, unit: str | None = None) -> Any:
        """What `env.step` takes, for one raw observation; sampled from a stream of the bundle's seed.

        `unit` names who is decided for; none of today's policies keeps a state per unit.
        """
        encoded = self.encode_one(observation)[None, :]
        drawn = self.decide(encoded, rng=self._own_rng, mask=self.action_mask([observation]))
        batch: Array = spaces.actions(self.action_space, drawn.action)
        return batch[0]
