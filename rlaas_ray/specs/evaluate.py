"""EvaluateSpec: how good a policy is on an env, over fresh episodes with recorded seeds.

Handed in by `rlaas evaluate` and `POST /evaluations`.
"""

from __future__ import annotations

from typing import Any

import pydantic
from pydantic import Field

from rlaas_ray.specs.document import Document


class EvaluateSpec(Document):
    """A policy, an env, a number of episodes and a seed."""

    policy: str = Field(min_length=1)
    env: str = Field(min_length=1)
    env_config: dict[str, Any] = Field(default_factory=dict)
    mode: str | None = None
    weights: tuple[float, ...] | dict[str, float] | None = None
    reward: str | None = Field(default=None, pattern=r"^[\w.]+:\w+$")
    preference: dict[str, float] | None = Field(
        default=None, description="weights of a policy that is conditioned on them, instead of its default"
    )
    front: bool = Field(default=False, description="its front over 21 weights, each with `episodes` of them")
    episodes: int = Field(default=64, ge=1, le=1_000_000)
    seed: int = Field(default=0, ge=0, le=2**31 - 1)

    @pydantic.model_validator(mode="after")
    def _one_point_or_all(self) -> EvaluateSpec:
        if self.front and self.preference is not None:
            msg = "front or preference, not both: a front has weights of its own"
            raise ValueError(msg)
        return self

    @property
    def env_arguments(self) -> dict[str, Any]:
        """`env_config` with the user's reward."""
        return self.env_config if self.reward is None else {**self.env_config, "reward": self.reward}
