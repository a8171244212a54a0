"""Requests and fragments: what a driver asks a collector for, and what comes back; all that travels while sampling.

Made by loop.py and by collectors (seam.Collector). Never holds an object per step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlaas_ray.specs.arrays import F32, F64, I64
from rlaas_ray.train import columns
from rlaas_ray.train.columns import Moments


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Request:
    """What the driver knows and a fragment needs. It carries the weights: no collector can act with old ones (trap T1)."""

    iteration: int
    parameters: F32  # flat, in the family's own order
    observations: Moments  # of raw encoded observations, so far
    returns: Moments  # (1,) of discounted returns, for reward scaling
    steps: int = 0  # env steps so far, over all collectors
    used: float = 0.0  # of the budget, in [0, 1]: exploration schedules follow it


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fragment:
    """What one request gave. `failure` holds the traceback of an env that broke; then `columns` is None and the rest is empty."""

    columns: Any  # the family's own: columns.Columns, replay.Transitions, ...
    observations: Moments  # of this fragment alone
    returns: Moments
    episode_returns: F64
    episode_lengths: I64
    steps: int  # valid ones, of whole envs
    rows: int  # valid ones, of units
    cpu_s: float
    failure: str | None = None


def failed(like: Moments, *, reason: str) -> Fragment:
    """The fragment of an env that raised; `like` has the width of observations."""
    return Fragment(
        columns=None,
        observations=columns.no_moments(like.mean.shape[0]),
        returns=columns.no_moments(1),
        episode_returns=np.empty(0),
        episode_lengths=np.empty(0, dtype=np.int64),
        steps=0,
        rows=0,
        cpu_s=0.0,
        failure=reason,
    )
