"""RouteTable: the immutable answer to "which arm gets this unit"; Arm: a version with a role and its buckets.

Written by `control` alone, told to replicas over HTTP, read by `serve/assignment.py`. The reward's fields are for the judge:
`evaluation/sequential.py` takes them from a rollout's first table. JSON in both directions, canonical, so that a table has a
digest; tables stay stored, so a new field needs a default.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from rlaas_ray.errors import InvalidInput

BUCKETS = 10_000
Role = Literal["champion", "challenger", "shadow", "fallback"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """`ranges`: half-open bucket ranges [low, high) that this arm owns; the champion owns what nobody else does."""

    name: str
    role: Role
    version: str
    digest: str
    ranges: tuple[tuple[int, int], ...] = ()

    @property
    def buckets(self) -> int:
        """How many of the 10,000 buckets the arm owns (0 for the champion, which owns the rest)."""
        return sum(high - low for low, high in self.ranges)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteTable:
    """All that a replica needs to answer for one endpoint. `epoch` rises over the whole database with any change.

    `preference`: the weights that policies conditioned on them observe, by objective and in their order; empty for others.
    """

    endpoint: str
    epoch: int
    pool: str
    arms: tuple[Arm, ...]
    salt: str
    assign_by: Literal["unit", "episode"]
    holdout_buckets: int
    reward_low: float
    reward_high: float
    gamma: float
    reward_deadline_s: float
    deadline_ms: int
    durability: Literal["process", "power"]
    on_full: Literal["answer", "shed"]
    rollout_id: str | None = None
    estop: bool = False
    deleted: bool = False
    preference: tuple[tuple[str, float], ...] = ()

    def arm(self, role: Role) -> Arm | None:
        """The arm with this role, if there is one."""
        return next((arm for arm in self.arms if arm.role == role), None)

    @property
    def champion(self) -> Arm:
        """Every table has one."""
        arm = self.arm("champion")
        if arm is None:
            raise InvalidInput(
                f"route table of {self.endpoint!r} has no champion",
                given=[a.name for a in self.arms],
                expected="one champion",
            )
        return arm

    def to_json(self) -> dict[str, Any]:
        """JSON values; `from_json` gives the table back."""
        body: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__ if name != "arms"}
        del body["preference"]
        if (
            self.preference
        ):  # left out else, so that tables from before it keep their digest; an array, because JSON keys are sorted
            body["preference"] = [list(pair) for pair in self.preference]
        body["arms"] = [
            {
                "name": a.name,
                "role": a.role,
                "version": a.version,
                "digest": a.digest,
                "ranges": [list(r) for r in a.ranges],
            }
            for a in self.arms
        ]
        return body

    def canonical(self) -> bytes:
        """The bytes that are stored and hashed."""
        return orjson.dumps(self.to_json(), option=orjson.OPT_SORT_KEYS)

    def digest(self) -> str:
        """SHA-256 of `canonical()`."""
        return hashlib.sha256(self.canonical()).hexdigest()


def from_json(body: dict[str, Any]) -> RouteTable:
    """The RouteTable of `to_json`. Raises InvalidInput on a missing or unknown field."""
    fields = dict(body)
    try:
        arms = tuple(
            Arm(
                name=a["name"],
                role=a["role"],
                version=a["version"],
                digest=a["digest"],
                ranges=tuple((int(lo), int(hi)) for lo, hi in a["ranges"]),
            )
            for a in fields.pop("arms")
        )
        preference = tuple((str(name), float(weight)) for name, weight in fields.pop("preference", ()))
        return RouteTable(arms=arms, preference=preference, **fields)
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput(
            "not a route table", given=str(error), expected="the document that `GET /internal/routes` gives"
        ) from None
