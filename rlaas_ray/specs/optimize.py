"""OptimizeSpec: a search for a front of solutions of a named problem.

Handed in by `rlaas optimize` and `POST /optimization`. Names of problems and algorithms are resolved by `rlaas_ray.optimize`.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from rlaas_ray.errors import nearest
from rlaas_ray.specs.document import Document

# `auto`, ours, and those that pymoo runs. `rlaas_ray.optimize` has each by this name.
ALGORITHMS = (
    "auto",
    *("nsga2", "nsga3", "moead", "spea2"),
    *("agemoea", "agemoea2", "cmaes", "ctaea", "ga", "rvea", "smsemoa", "unsga3"),
)


class WarmStart(Document):
    """Points to begin from: those of an earlier run, or rows of variables. At most half of the first population."""

    run: str | None = Field(default=None, min_length=1, description="id of an earlier search on the same variables")
    rows: list[list[float]] | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _one(self) -> WarmStart:
        if (self.run is None) == (self.rows is None):
            raise ValueError("either run or rows")
        return self


class OptimizeSpec(Document):
    """Problem, algorithm, budget and the weights of the final choice. What is None is the effort's."""

    problem: str = Field(
        min_length=1, description="5g, recommendation, edge_placement, policy_search, zdt1, ... or module:Class"
    )
    problem_config: dict[str, Any] = Field(default_factory=dict)
    algorithm: str = Field(default="auto", min_length=1)
    algorithm_config: dict[str, Any] = Field(default_factory=dict)
    mode: str = "normal"
    weights: dict[str, float] | None = None
    choose: Literal["topsis", "pseudo_weights", "minimax", "knee"] | None = None
    effort: Literal["balanced", "quick", "thorough"] = "balanced"
    population_size: int | None = Field(default=None, ge=4, le=100_000)
    generations: int | None = Field(default=None, ge=1, le=1_000_000)
    evaluations: int | None = Field(default=None, ge=1)
    time_limit_s: float | None = Field(default=None, gt=0, le=30 * 86_400)
    target_hypervolume: float | None = Field(default=None, gt=0)
    stagnation: bool | None = None
    reference: dict[str, float] | None = Field(default=None, description="hypervolume reference by objective")
    warm_start: WarmStart | None = None
    evaluate: Literal["auto", "here", "ray"] = Field(default="auto", description="auto: on Ray where rows are dear")
    workers: int | None = Field(default=None, ge=1, le=10_000, description="on Ray; as many as there are CPUs")
    row_timeout_s: float | None = Field(
        default=None, gt=0, description="of one row on Ray; beyond it the row has failed"
    )
    checkpoint_every: int = Field(default=50, ge=1, description="generations; at most 30 s in any case")
    priority: Literal[1, 2, 4] = Field(default=1, description="share of the core that many searches have together")
    deadline_s: float | None = Field(
        default=None, gt=0, description="wanted so soon after it was asked for; no promise"
    )
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    name: str | None = None

    @field_validator("algorithm")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in ALGORITHMS:
            raise ValueError(f"one of {', '.join(ALGORITHMS)}. {nearest(name, list(ALGORITHMS)) or ''}".strip())
        return name
