"""V-trace: value targets and policy-gradient advantages for what another policy sampled, whole fragments at once.

Called by engine.py and oracle.py. Pure; knows no network. Without a lag it is generalised advantages (train/columns.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlaas_ray.errors import InvalidInput
from rlaas_ray.specs.arrays import F32, Bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """Discount, and how far importance ratios are trusted."""

    gamma: float
    gae_lambda: float = 1.0  # the paper's lambda (remark 2): 1 is V-trace as it is best known
    rho_clip: float = 1.0  # decides the fixed point: which policy's value is learnt
    c_clip: float = 1.0  # decides how far back a surprise travels, not the fixed point


def vtrace(
    *,
    log_ratios: F32,
    rewards: F32,
    values: F32,
    following: F32,
    terminated: Bool,
    truncated: Bool,
    correction: Correction,
) -> tuple[F32, F32]:
    """Value targets and advantages (T, B), by Espeholt et al. 2018, equations 1 and 4 and remark 2.

    `log_ratios`: log of target over behaviour probability of the actions taken. `following[t]`: the value of the observation that
    step t led to, the final one where an episode ended. A terminated step is worth its reward alone; a truncated one bootstraps
    from `following`; neither lets anything of the next episode in. Rows that are not valid come out as numbers without meaning
    and touch no other row. Raises InvalidInput when shapes differ.
    """
    shapes = [log_ratios.shape, rewards.shape, values.shape, following.shape, terminated.shape, truncated.shape]
    if rewards.ndim != 2 or len(set(shapes)) != 1:
        raise InvalidInput("fragment", given=shapes, expected="six arrays of one shape (T, B)")
    gamma, gae_lambda = np.float32(correction.gamma), np.float32(correction.gae_lambda)
    ratios = np.exp(log_ratios)
    rho = np.minimum(ratios, np.float32(correction.rho_clip))
    alive = gamma * (1.0 - terminated.astype(np.float32))
    same_episode = gamma * gae_lambda * (1.0 - (terminated | truncated).astype(np.float32))
    surprise = rho * (rewards + alive * following - values)
    decay = same_episode * np.minimum(ratios, np.float32(correction.c_clip))
    excess = np.empty_like(surprise)  # of the target over the value
    running = np.zeros(surprise.shape[1], dtype=np.float32)
    for t in range(surprise.shape[0] - 1, -1, -1):
        running = surprise[t] + decay[t] * running
        excess[t] = running
    advantages = surprise
    advantages[:-1] += rho[:-1] * same_episode[:-1] * excess[1:]
    return excess + values, advantages
