"""The documents that doors show: one function a noun, from a value to JSON values. Pure; the same at HTTP, CLI and SDK."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import orjson

from rlaas_ray.policies import spaces
from rlaas_ray.specs.routing import RouteTable
from rlaas_ray.specs.runs import Run, Version
from rlaas_ray.store.endpoints import Endpoint
from rlaas_ray.store.rollouts import EvidenceRow, Rollout


def run(value: Run) -> dict[str, Any]:
    """A run; what belongs to the machinery (epoch, digest, owner, lease) stays inside."""
    names = ("id", "kind", "name", "state", "attempt", "place", "place_ref", "seed", "spec", "created_us", "started_us")
    body = {name: getattr(value, name) for name in names}
    body |= {name: getattr(value, name) for name in ("ended_us", "error", "result", "checkpoint_uri")}
    return {**body, "progress": asdict(value.progress)}


def policy_front(value: Run) -> dict[str, Any] | None:
    """The front of a weight-conditioned policy that this run has trained or evaluated; None where it has none."""
    result = value.result or {}
    found = (result.get("evaluation") or {}).get("front") if value.kind == "train" else result
    own: dict[str, Any] | None = (
        found if value.kind in {"train", "evaluate"} and found and "preferences" in found else None
    )
    return own


def version(value: Version) -> dict[str, Any]:
    """A registered version."""
    return {**asdict(value), "aliases": list(value.aliases)}


def rollout(value: Rollout, *, evidence: EvidenceRow | None) -> dict[str, Any]:
    """A rollout; while it is open its `verdict` is what the last tick said (a hold, and why)."""
    verdict = value.verdict or (evidence.verdict if evidence is not None else None)
    return {
        "id": value.id,
        "endpoint": value.endpoint,
        "state": value.state,
        "stage": value.stage,
        "share_percent": value.spec.stages[value.stage] if value.state in {"ramping", "holding"} else 0.0,
        "epoch": value.epoch,
        "champion": value.champion,
        "challenger": value.challenger,
        "spec": value.spec.to_json(),
        "started_us": value.started_us,
        "stage_started_us": value.stage_started_us,
        "ended_us": value.ended_us,
        "verdict": verdict,
        "evidence": None if evidence is None else evidence.statistics,
    }


def endpoint(
    value: Endpoint,
    *,
    table: RouteTable,
    rollout_id: str | None,
    addresses: Mapping[str, Any],
    manifest_spaces: tuple[dict[str, Any], dict[str, Any]] | None,
) -> dict[str, Any]:
    """An endpoint with its arms, spaces and an observation to try it with."""
    observation, action = manifest_spaces or (None, None)
    return {
        "name": value.name,
        "epoch": value.epoch,
        "spec": value.spec.to_json(),
        "table": table.to_json(),
        "rollout": rollout_id,
        "preference": dict(table.preference) or None,
        "addresses": dict(addresses),
        "observation_space": observation,
        "action_space": action,
        "example": None if observation is None else example(observation),
        "created_us": value.created_us,
    }


def example(observation_space: Mapping[str, Any]) -> Any:
    """An observation that the space holds, the same each time."""
    space = spaces.from_json(observation_space)
    space.seed(0)
    return orjson.loads(orjson.dumps(_plain(space.sample())))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value.tolist() if hasattr(value, "tolist") else value
