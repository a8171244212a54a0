"""How probable logged actions are under a policy: what off-policy evaluation divides by the log's own probabilities.

Called by `rlaas ope`. Countable actions only: two densities have a ratio too, but a deterministic one has none.

`n` rows, `a` action entries, `m` logits.
"""

from __future__ import annotations

import numpy as np
from gymnasium import spaces as gs

from rlaas_ray.errors import InvalidInput, NotBuilt
from rlaas_ray.policies import heads
from rlaas_ray.policies.loaded import LoadedPolicy
from rlaas_ray.specs.arrays import F32, F64, Bool

_BLOCK = 65_536  # rows at a time: activations of a network need not hold a whole log


def uniform(mask: Bool, *, proposed: F64) -> F64:
    """1 / (allowed actions) of each row, (n,); 0 for an action that its `mask` (n, m) forbids. `proposed` is (n, 1)."""
    index = _indices(proposed, counts=(mask.shape[1],))[:, 0]
    allowed = mask[np.arange(len(mask)), index]
    return np.where(allowed, 1.0 / np.maximum(mask.sum(axis=1), 1), 0.0)


def probabilities(policy: LoadedPolicy, *, observations: F32, proposed: F64, mask: Bool | None = None) -> F64:
    """Probability (n,) that `policy` proposes `proposed` (n, a), observing the encoded `observations` (n, d), as it is served.

    `mask` (n, m) forbids actions where the policy has a logit for each. Raises InvalidInput for another width or action, NotBuilt
    for a Box or for a policy with a memory.
    """
    _check(policy, observations=observations, proposed=proposed)
    found = np.empty(len(observations))
    for start in range(0, len(observations), _BLOCK):
        rows = slice(start, start + _BLOCK)
        params = policy.distribution(observations[rows])
        if mask is not None and mask.shape[1] == policy.head.size and not isinstance(policy.head, heads.Point):
            params = heads.masked(params, mask[rows])
        if policy.serving == "greedy":
            found[rows] = (policy.head.mode(params) == proposed[rows]).all(axis=1)
        else:
            found[rows] = np.exp(policy.head.log_prob(params, proposed[rows]))
    return found


def under(policy: LoadedPolicy, *, observations: F32) -> F32:
    """Logged rows (n, d) with the weights of `policy` instead of those that were logged: what these would have done.

    Raises InvalidInput for a policy without a preference, or with other weights by row.
    """
    if policy.preference is None or policy.weights is None or policy.weights.ndim != 1:
        raise InvalidInput(
            "weights for the target",
            given=f"{policy.manifest.name!r}",
            expected="a policy that is conditioned on weights",
            cure="Leave them out, or train one with `preference: conditioned`.",
        )
    own = observations[:, : observations.shape[1] - policy.preference.size]
    weights = np.broadcast_to(policy.weights, (len(own), policy.preference.size))
    return np.concatenate([own, weights], axis=1)


def _check(policy: LoadedPolicy, *, observations: F32, proposed: F64) -> None:
    space = policy.action_space
    if policy.state_size:
        raise NotBuilt(
            "off-policy evaluation of a policy with a memory",
            given=policy.manifest.name,
            expected="a policy that decides from the observation alone",
            cure="Compare it in a canary: `rlaas rollout start ENDPOINT POLICY`.",
        )
    match space:
        case gs.Discrete():
            counts: tuple[int, ...] = (int(space.n),)
        case gs.MultiDiscrete():
            counts = tuple(int(n) for n in space.nvec.ravel())
        case _:
            raise NotBuilt(
                "off-policy evaluation of actions that cannot be counted",
                given=str(space),
                expected="Discrete or MultiDiscrete",
                cure="Compare it in a canary: `rlaas rollout start ENDPOINT POLICY`.",
            )
    if observations.shape[1] != policy.size:
        raise InvalidInput(
            "policy and log",
            given=f"a policy of {policy.size} observed numbers, a log of {observations.shape[1]}",
            expected="the same",
            cure="Name a policy for the endpoint that was logged.",
        )
    _indices(proposed, counts=counts)


def _indices(proposed: F64, *, counts: tuple[int, ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Logged actions as indices from 0."""
    width = proposed.shape[1]
    right = width == len(counts) and bool(
        ((proposed >= 0) & (proposed < np.asarray(counts)) & (proposed == np.floor(proposed))).all()
    )
    if not right:
        shown = f"{width} entries, {np.nanmin(proposed, initial=0):g} to {np.nanmax(proposed, initial=0):g}"
        raise InvalidInput(
            "logged actions",
            given=shown,
            expected=f"{len(counts)} whole number(s) from 0, below {', '.join(map(str, counts))}",
            cure="The target must have the actions of the policy that was logged.",
        )
    return proposed.astype(np.int64)
