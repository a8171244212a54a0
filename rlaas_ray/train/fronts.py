"""The front of a weight-conditioned policy, measured, with the point that serves by default; one document.

Called by runner.py at the end of a training and by `rlaas evaluate --front`. Here evaluation and choice meet: they are siblings.
Never trains and never writes a file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rlaas_ray.evaluation import policy_front
from rlaas_ray.evaluation.episodes import MakeVector
from rlaas_ray.evaluation.vector_returns import VectorReturns, vector_returns
from rlaas_ray.optimize import choice
from rlaas_ray.policies.loaded import LoadedPolicy
from rlaas_ray.policies.preferences import Preference
from rlaas_ray.specs.arrays import F64

EPISODES = 30  # of each weight


def measure(
    policy: LoadedPolicy,
    *,
    make_vector: MakeVector,
    seed: int,
    episodes: int = EPISODES,
    halted: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """The document of `policy`'s front over 21 weights: what `optimize` gives of a front, and a row for each weight.

    Raises InvalidInput for a policy without a preference, Interrupted when `halted` says so.
    """
    preference = policy.preference
    weights = policy_front.weights(2 if preference is None else preference.size)
    found = vector_returns(
        policy, weights=weights, make_vector=make_vector, episodes=episodes, seed=seed, halted=halted
    )
    assert preference is not None  # vector_returns refused others
    return _document(preference, weights=weights, found=found, episodes=episodes, seed=seed)


def default_of(front: dict[str, Any]) -> tuple[float, ...]:
    """The weights of the chosen point of a document."""
    return tuple(float(one) for one in front["chosen"]["x"])


def _document(
    preference: Preference, *, weights: F64, found: VectorReturns, episodes: int, seed: int
) -> dict[str, Any]:
    signs = preference.signs
    means = found.values.mean(axis=1)
    kept = policy_front.kept(found.values * signs)
    rows = np.flatnonzero(kept)
    order = rows[np.argsort(means[rows, 0], kind="stable")]
    front = means[order]
    equal = np.full(preference.size, 1.0 / preference.size)
    chosen = choice.topsis(front, equal, minimise=signs < 0)
    best, worst = (means * signs).max(axis=0) * signs, (means * signs).min(axis=0) * signs
    span = np.where(best != worst, np.abs(best - worst), 1.0)
    inside = (front - worst) * signs / span
    at = order[chosen.index]
    table = [
        {
            "weights": weights[row].tolist(),
            "mean": means[row].tolist(),
            "ci95": bounds.tolist(),
            "on_front": bool(kept[row]),
            "chosen": bool(row == at),
        }
        for row, bounds in enumerate(policy_front.intervals(found.values))
    ]
    return {
        "objectives": [one.to_json() for one in preference.objectives],
        "front": front.tolist(),
        "x": weights[order].tolist(),
        "front_size": len(front),
        "chosen": {
            "index": int(chosen.index),
            "objectives": preference.named(front[chosen.index]),
            "score": float(chosen.score[chosen.index]),
            "x": weights[at].tolist(),
        },
        "weights": preference.named(equal),
        "hypervolume": policy_front.hypervolume(inside, reference=np.zeros(preference.size)),
        "box": {"ideal": best.tolist(), "nadir": worst.tolist()},
        "anchors": {},
        "preferences": table,
        "expected_utility": policy_front.expected_utility(found.scaled.mean(axis=1)[order]),
        "sparsity": policy_front.sparsity(inside),
        "episodes": episodes,
        "seed": seed,
        "evaluations": len(weights) * episodes,
        "summary": _summary(preference, count=len(front), of=len(weights), point=front[chosen.index], at=weights[at]),
    }


def _summary(preference: Preference, *, count: int, of: int, point: F64, at: F64) -> str:
    told = ", ".join(
        f"{one.name} {value:.4g}{'' if one.unit == '1' else ' ' + one.unit}"
        for one, value in zip(preference.objectives, point, strict=True)
    )
    return (
        f"{count} of {of} weights are beaten by no other; chosen: {preference.shown(at.tolist())}, which earns {told}"
    )
