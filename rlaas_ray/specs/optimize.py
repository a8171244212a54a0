"""OptimizeSpec: a search for a front of solutions of a named problem.

Handed in by `rlaas optimize` and `POST /optimization`. Names of problems are resolved by `rlaas_ray.optimize`.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from rlaas_ray.specs.document import Document


class OptimizeSpec(Document):
    """Problem, algorithm, budget and the weights of the final choice."""

    problem: str = Field(min_length=1, description="5g, recommendation, edge_placement or module:Class")
    problem_config: dict[str, Any] = Field(default_factory=dict)
    algorithm: Literal["nsga3"] = "nsga3"
    mode: str = "normal"
    weights: dict[str, float] | None = None
    population_size: int = Field(default=100, ge=4, le=100_000)
    generations: int = Field(default=500, ge=1, le=1_000_000)
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    name: str | None = None
