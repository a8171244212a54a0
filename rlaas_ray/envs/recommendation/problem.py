"""Problem type `recommendation`: the slates of all user segments at once, as a pymoo problem with three objectives.

Met by optimize/problems.py. Exact: click and conversion probabilities are summed, nothing is sampled and nothing moves in time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from pymoo.core.problem import Problem

from rlaas_ray.envs import philox
from rlaas_ray.envs.recommendation import choice, dynamics, metrics
from rlaas_ray.errors import InvalidInput, nearest
from rlaas_ray.specs.arrays import F64, I64

SEGMENTS, DOCUMENTS = 64, 40
# Equal values of different slates must be equal numbers, or one would seem to dominate the other by a rounding error.
DECIMALS = 12
_INTEREST, _QUALITY, _RANDOM = 300, 301, 302  # purposes of the generator
OBJECTIVES: tuple[tuple[str, str, Literal["min", "max"]], ...] = (
    ("ctr", "1", "max"),
    ("cvr", "1", "max"),
    ("diversity", "1", "max"),
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Catalogue:
    """S segments and M documents: interest (S, M) of each in each, quality and topic (M,), share of each segment (S,)."""

    interest: F64
    quality: F64
    topic: I64
    share: F64
    shown: int

    @property
    def conversion(self) -> F64:
        """(S, M) probability that a click converts."""
        return metrics.conversion(self.interest, np.broadcast_to(self.quality, self.interest.shape))


def drawn(*, seed: int) -> Catalogue:
    """64 segments with interests uniform in 20 topics, 40 documents, two of each topic."""
    interests = 2.0 * philox.uniforms(seed, purpose=_INTEREST, shape=(SEGMENTS, dynamics.TOPICS)) - 1.0
    topic = np.arange(DOCUMENTS) % dynamics.TOPICS
    noise = philox.normals(philox.uniforms(seed, purpose=_QUALITY, shape=(DOCUMENTS,)))
    return Catalogue(
        interest=interests[:, topic],
        quality=dynamics.MEANS[topic] + dynamics.QUALITY_SD * noise,
        topic=topic,
        share=np.full(SEGMENTS, 1.0 / SEGMENTS),
        shown=choice.SHOWN,
    )


def tiny() -> Catalogue:
    """Two segments, six documents, two shown: 225 solutions, whose front is known."""
    return Catalogue(
        interest=np.asarray([[0.9, 0.5, 0.1, -0.2, -0.6, 0.3], [-0.4, 0.2, 0.8, 0.6, 0.0, -0.9]]),
        quality=np.asarray([-2.0, -1.0, 0.0, 1.0, 2.0, 3.0]),
        topic=np.asarray([0, 0, 1, 1, 2, 2]),
        share=np.asarray([0.6, 0.4]),
        shown=2,
    )


def slates(x: F64, *, catalogue: Catalogue) -> I64:
    """The documents that each segment sees: its highest priorities, ties to the lower index.

    x (n, S*M) -> (n, S, k), ascending
    """
    priority = x.reshape(len(x), *catalogue.interest.shape).copy()
    found = np.empty((*priority.shape[:2], catalogue.shown), dtype=np.int64)
    for slot in range(catalogue.shown):
        found[..., slot] = priority.argmax(axis=2)
        np.put_along_axis(priority, found[..., slot, None], -np.inf, axis=2)
    found.sort(axis=2)
    return found


def evaluate(found: I64, *, catalogue: Catalogue) -> F64:
    """CTR, CVR and diversity of slates (n, S, k) -> (n, 3). CVR is conversions over clicks, both summed over segments."""
    mass, segment = np.exp(catalogue.interest), np.arange(len(catalogue.share))
    converting = mass * catalogue.conversion
    clicks, conversions = np.zeros(found.shape[:2]), np.zeros(found.shape[:2])
    for slot in range(catalogue.shown):
        clicks = clicks + mass[segment, found[..., slot]]
        conversions = conversions + converting[segment, found[..., slot]]
    total = choice.NULL["mnl"] + clicks
    diverse = metrics.diversity(catalogue.topic[found])
    ctr, cvr, diversity = (
        (one * catalogue.share).sum(axis=1) for one in (clicks / total, conversions / total, diverse)
    )
    return np.round(np.stack((ctr, cvr / ctr, diversity), axis=1), DECIMALS)


class SlateProblem(Problem):  # type: ignore[misc, no-any-unimported]  # pymoo has no types
    """`recommendation` for pymoo: 2,560 priorities in [0, 1]; minimises the negatives of CTR, CVR and diversity.

    `size="tiny"` is the problem whose front is known. `exposure_cap`: no document may be shown to a greater share of segments.
    A search starts from the anchors here: from random priorities alone it does not get near them.
    """

    MODES: ClassVar[Mapping[str, tuple[float, float, float]]] = {"normal": (1 / 3, 1 / 3, 1 / 3), **metrics.MODES}
    objectives = OBJECTIVES
    box = (np.full(3, -1.0), np.zeros(3))
    warm_start = True

    def __init__(
        self, *, mode: str = "normal", size: str = "full", seed: int = 0, exposure_cap: float | None = None
    ) -> None:
        for name, given, known in (("mode", mode, list(self.MODES)), ("size", size, ["full", "tiny"])):
            if given not in known:
                raise InvalidInput(
                    f"{name} of problem recommendation",
                    given=given,
                    expected=", ".join(known),
                    cure=nearest(given, known),
                )
        self.catalogue = drawn(seed=seed) if size == "full" else tiny()
        least = self.catalogue.shown / len(self.catalogue.topic)
        if exposure_cap is not None and not least <= exposure_cap <= 1.0:
            raise InvalidInput(
                "exposure_cap of problem recommendation",
                given=exposure_cap,
                expected=f"{least:.3g} to 1",
                cure="Some document is shown to that share of segments at least; 0.3 is a usual cap.",
            )
        self.exposure_cap, self.seed = exposure_cap, seed
        self.weights = np.array(self.MODES[mode], dtype=np.float64)
        super().__init__(
            n_var=self.catalogue.interest.size,
            n_obj=3,
            n_ieq_constr=0 if exposure_cap is None else 1,
            xl=0.0,
            xu=1.0,
        )

    def natural(self, x: F64) -> F64:
        """CTR, CVR and diversity. x (n, d) -> (n, 3)."""
        return evaluate(slates(x, catalogue=self.catalogue), catalogue=self.catalogue)

    def exposure(self, x: F64) -> F64:
        """The greatest share of segments that any one document is shown to. x (n, d) -> (n,)."""
        found, count = slates(x, catalogue=self.catalogue), len(self.catalogue.topic)
        share = np.zeros((len(x), count))
        for document in range(count):
            share[:, document] = ((found == document).any(axis=2) * self.catalogue.share).sum(axis=1)
        return np.asarray(share.max(axis=1), dtype=np.float64)

    def _evaluate(self, x: F64, out: dict[str, Any], *_: object, **__: object) -> None:
        out["F"] = -self.natural(x)
        if self.exposure_cap is not None:
            out["G"] = self.exposure(x)[:, None] - self.exposure_cap

    def anchors(self) -> dict[str, F64]:
        """What anyone would try first: random priorities, and each segment's best by clicks, by conversions, by both."""
        mass, converting = np.exp(self.catalogue.interest), self.catalogue.conversion
        random = philox.uniforms(self.seed, purpose=_RANDOM, shape=(self.catalogue.interest.size,))
        greedy = {"click-greedy": mass, "conversion-greedy": converting, "both-greedy": mass * converting}
        return {"random": random} | {name: _priorities(score) for name, score in greedy.items()}


def _priorities(score: F64) -> F64:
    """Scores (S, M) as priorities in [0, 1]: min-max scaled. -> (S*M,)."""
    low, high = score.min(), score.max()
    return np.asarray((score - low) / (high - low), dtype=np.float64).reshape(-1)
