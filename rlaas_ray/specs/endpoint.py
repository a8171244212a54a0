"""EndpointSpec: one decision point that clients call: its champion, its fallback, what a reward is, its limits.

Handed in by `rlaas serve` and `PUT /endpoints/{name}`; stored whole. `control/endpoints.py` copies what
replicas and the judge need of it into the route table. `deadline_ms` is of an answer, `reward.deadline_s` of a reward.
"""

from __future__ import annotations

from typing import Literal

import pydantic
from pydantic import Field

from rlaas_ray.specs.document import Document

NAME = r"^[a-z0-9]([a-z0-9-]{0,45}[a-z0-9])?$"


class RewardSpec(Document):
    """Bounds of a unit's or an episode's return, its discount, and how long a reward may take."""

    low: float = 0.0
    high: float = 1.0
    gamma: float = Field(default=1.0, ge=0, le=1)
    deadline_s: float = Field(default=60.0, gt=0, le=30 * 86_400)

    @pydantic.model_validator(mode="after")
    def _ordered(self) -> RewardSpec:
        if not self.low < self.high:
            msg = f"low < high, got low {self.low} and high {self.high}"
            raise ValueError(msg)
        return self


class EndpointSpec(Document):
    """What answers at this name, and under which limits."""

    name: str = Field(pattern=NAME)
    champion: str = Field(min_length=1, description="NAME[:N|@ALIAS], a bundle path, or baseline:ENV/NAME")
    fallback: str | None = None
    assign_by: Literal["unit", "episode"] = "unit"
    pool: str = Field(default="policies", pattern=NAME)
    preference: dict[str, float] | None = Field(
        default=None,
        description="weights of the objectives, for a policy that is conditioned on them; else its default",
    )
    reward: RewardSpec = RewardSpec()
    deadline_ms: int = Field(default=250, ge=1, le=60_000)
    durability: Literal["process", "power"] = "process"
    on_full: Literal["answer", "shed"] = "answer"
    holdout_percent: float = Field(
        default=0.0, ge=0, le=50, description="units that always get the champion and enter no test"
    )
