"""RolloutSpec: the staged change of shares that verdicts drive (docs/rollouts.md says how it is judged).

Handed in by `rlaas rollout start` and `POST /endpoints/{name}/rollouts`; judged by `serve/rollout.py`, carried out by
`control/rollouts.py`. `margin` and `adjust` also shape the fold (`evaluation/sequential.py`).
"""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic
from pydantic import Field

from rlaas_ray.specs.document import Document


class Guards(Document):
    """Which event streams can roll back besides the reward."""

    failures: bool = True
    latency: bool = True
    shield: bool = True


class RolloutSpec(Document):
    """Who challenges, in which stages, and what a verdict needs."""

    endpoint: str
    challenger: str = Field(min_length=1)
    stages: tuple[Annotated[float, Field(gt=0, le=50)], ...] = Field(
        default=(5, 25, 50), min_length=1, description="percent"
    )
    min_time_s: float = Field(default=1800, ge=0)
    stage_min_s: float = Field(default=300, ge=0)
    stage_min_units: int = Field(default=50, ge=1, description="closed challenger outcomes before the next stage")
    min_units: int = Field(default=200, ge=1, description="closed challenger outcomes before promotion")
    margin: float = Field(default=0.02, gt=0, lt=1, description="of the champion's mean, for non-inferiority")
    promote: Literal["non_inferior", "superior"] = "non_inferior"
    alpha: float = Field(default=0.01, gt=0, lt=0.5)
    shadow: bool = False
    max_duration_s: float = Field(default=604_800, gt=0)
    adjust: Literal["none", "first_observation"] = "none"
    guards: Guards = Guards()
    preset: Literal["default", "demo"] = Field(default="default", description="demo: short gates; the verdict says so")
    force: bool = Field(default=False, description="let a bundle in again that was rolled back in the last 24 h")
    expected_units_per_s: float | None = Field(
        default=None, gt=0, description="to refuse a rollout that cannot reach a verdict"
    )

    @pydantic.model_validator(mode="after")
    def _rising(self) -> RolloutSpec:
        if list(self.stages) != sorted(set(self.stages)):
            msg = f"stages that rise, got {list(self.stages)}"
            raise ValueError(msg)
        if self.preset == "default" and (self.min_time_s < 1 or self.stage_min_s < 0):
            msg = "min_time_s of at least 1 s outside the demo preset"
            raise ValueError(msg)
        return self
