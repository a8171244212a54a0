"""ChooseSpec: which point of a search's front to take, by a method or between parties.

Handed in by `rlaas choose` and `POST /optimization/{id}/choose`. `rlaas_ray.optimize` keeps to its names of methods and rules.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from rlaas_ray.specs.document import Document

Method = Literal["topsis", "pseudo_weights", "achievement", "minimax", "knee"]
Normalisation = Literal["vector", "min_max"]
Rule = Literal["nash", "weighted", "maximin", "topsis", "veto"]


class Party(Document):
    """A tenant or an agent with its own preference: `weights` of the objectives, or `targets` in natural units."""

    name: str = Field(min_length=1, max_length=100)
    weights: dict[str, float] | None = None
    targets: dict[str, float] | None = None
    share: float = Field(default=1.0, gt=0, description="how much the party counts; rule maximin asks nobody's share")
    floor: float | None = Field(
        default=None, le=1, description="utility below which it refuses: 0 its worst, 1 its best"
    )
    limits: dict[str, float] | None = Field(
        default=None, description="values of objectives that it refuses to go beyond"
    )

    @model_validator(mode="after")
    def _one_preference(self) -> Party:
        if self.weights is None and self.targets is None:
            raise ValueError("weights or targets, so that the party prefers something")
        return self


class ChooseSpec(Document):
    """A method with what it takes, or `parties` with a `rule`. What is None is the run's, or follows from the rest."""

    method: Method | None = Field(default=None, description="achievement where targets are given, else topsis")
    weights: dict[str, float] | None = Field(default=None, description="by objective; one that is missing has none")
    targets: dict[str, float] | None = Field(default=None, description="by objective, natural units")
    normalisation: Normalisation = "vector"
    parties: tuple[Party, ...] | None = Field(default=None, min_length=1, max_length=1000)
    rule: Rule | None = Field(default=None, description="nash where parties are given")
    sensitivity: bool = False
    session: int | None = Field(
        default=None, ge=1, description="seq of an earlier choice of this run, whose frame holds"
    )

    @model_validator(mode="after")
    def _one_way(self) -> ChooseSpec:
        own = self.method or self.weights or self.targets or self.sensitivity
        if self.parties is not None and own:
            raise ValueError("parties with their own weights and targets, or one method, weights and targets")
        if self.parties is None and self.rule is not None:
            raise ValueError("parties beside a rule")
        names = [party.name for party in self.parties or ()]
        if len(set(names)) < len(names):
            raise ValueError("each party under a name of its own")
        return self
