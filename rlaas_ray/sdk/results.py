"""What the client gives back: decisions, results, progress, as frozen values; `raw` holds the whole document.

Made by the handles from the API's JSON. Never talks to anyone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from rlaas_ray.pictures import notebook

ValueT = TypeVar("ValueT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One decision as the endpoint answered it."""

    decision_id: str
    action: Any
    version: str
    arm: str
    arm_probability: float
    propensity: float
    epoch: int
    logged: bool
    probabilities: list[float] | None = None
    shield: Mapping[str, Any] | None = None
    fallback: str | None = None
    state_token: str | None = None
    raw: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is; None where it is not known (yet)."""

    fraction: float = 0.0
    steps: int = 0
    steps_total: int | None = None
    steps_per_s: float | None = None
    eta_s: float | None = None
    episode_return_mean: float | None = None
    episodes: int = 0
    message: str | None = None
    raw: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What a run ended with; `version` is set where it registered one."""

    run_id: str
    state: str
    version: Mapping[str, Any] | None = None
    evaluation: Mapping[str, Any] | None = None
    raw: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningResult:
    """What a study found; `version` is the best trial's policy, where trials train."""

    run_id: str
    state: str
    best: Mapping[str, Any] | None = None
    version: Mapping[str, Any] | None = None
    evaluation: Mapping[str, Any] | None = None
    front: Any = None
    hypervolume: float | None = None
    importance: Mapping[str, float] | None = None
    trials: int | None = None
    report: str | None = None
    raw: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizationResult:
    """A front and the point chosen from it."""

    run_id: str
    state: str
    best_solution: Any = None
    front: Any = None
    hypervolume: float | None = None
    summary: Any = None
    raw: Mapping[str, Any]

    def _repr_html_(self) -> str:
        """In a notebook: the front, the chosen point, the hypervolume."""
        return notebook.result(self.raw)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """How good a policy is on an env."""

    run_id: str
    state: str
    return_mean: float | None = None
    return_ci95: Any = None
    score: float | None = None
    costs: Any = None
    episodes: int | None = None
    seed: int | None = None
    raw: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A point taken from a front, and why. `chosen` has index, objectives and x (None where the run kept none).

    Between parties: rule, parties (utility and regret of each), alternatives within 2 %; `chosen` is None where their demands
    cannot all be met, and `relax` says which must give way.
    """

    run: str
    seq: int
    reason: str
    chosen: Mapping[str, Any] | None = None
    runner_up: Mapping[str, Any] | None = None
    method: str | None = None
    weights: Mapping[str, float] | None = None
    sensitivity: Mapping[str, Any] | None = None
    rule: str | None = None
    parties: Any = None
    alternatives: Any = None
    relax: Mapping[str, Any] | None = None
    raw: Mapping[str, Any]


class FrontDocument(dict[str, Any]):
    """A front as the API gives it; a notebook shows its picture."""

    def _repr_html_(self) -> str:
        """In a notebook: its picture."""
        return notebook.front(self)


class FrontRows(list[list[float]]):
    """The points of a front, a row each; a notebook shows their picture. `document` is the result that they belong to."""

    def __init__(self, rows: Iterable[list[float]], *, document: Mapping[str, Any]) -> None:
        super().__init__(rows)
        self.document = document

    def _repr_html_(self) -> str:
        """In a notebook: their picture."""
        return notebook.front(self.document)


def build(kind: type[ValueT], document: Mapping[str, Any], **more: Any) -> ValueT:
    """The value of `kind` from a document; what it has no field for stays in `raw`."""
    known = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    found: dict[str, Any] = {k: v for k, v in {**document, **more}.items() if k in known}
    return kind(**{**found, "raw": document})


def of_run(document: Mapping[str, Any]) -> RunResult | TuningResult | OptimizationResult | Evaluation:
    """The result of a run that ended well."""
    result = document.get("result") or {}
    ended = {"run_id": document["id"], "state": document["state"]}
    if document.get("kind") == "optimize":
        front = FrontRows(result.get("front") or [], document=result)
        return build(OptimizationResult, result, front=front, **ended)
    if document.get("kind") == "tune":
        return build(TuningResult, result, **ended)
    if document.get("kind") == "evaluate":
        return build(Evaluation, result, **ended)
    return build(RunResult, result, **ended)
