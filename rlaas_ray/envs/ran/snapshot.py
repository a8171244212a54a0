"""One quarter of an hour of the network: from settings, links and demand to rates, loads, latencies and watts.

Called by dynamics at every step and by the references, which try other settings on the same snapshot. Changes nothing it is
given. Shapes: B networks, C = 21 cells, U = 210 users, S = 7 sites; float32; users contiguous, so that a pass over cells is
SIMD over users.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlaas_ray.envs.ran import radio
from rlaas_ray.specs.arrays import F32, F64, I64, Bool

State = dict[str, Any]

HYSTERESIS_DB = 2.0
ASLEEP_DB = -300.0
SATISFIED_SHARE = 0.95
_LIFT_DB = 512.0  # keeps the sum positive, so that float32 bits order like integers
_FIELD = 31  # the low five bits carry the cell


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Settings:
    """What the operator sets, (B, C): power dBm, tilt degrees, fairness a (alpha = 4^a), CIO dB; active: on the air."""

    power: F32
    tilt: F32
    fairness: F32
    cio: F32
    active: Bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcome:
    """What happened. Users (B, U): cell, sinr, rate, served, latency, satisfied; cells (B, C): load, power_w; bins (B U,)."""

    cell: I64
    sinr: F32
    rate: F32
    served: F32
    latency: F32
    satisfied: Bool
    load: F32
    power_w: F32
    bins: I64


def evaluate(
    links: Mapping[str, Any], settings: Settings, *, demand: F32, load: F32, cell: I64, passes: int = 3
) -> Outcome:
    """Attach users, couple loads, share airtime. links: gain (B, C, U), theta (B, S, U); cell (B, U), -1: a new user."""
    gain: F32 = links["gain"]
    received = _received_dbm(gain, links["theta"], settings=settings)
    cell = _attach(received, cio=settings.cio, cell=cell)
    networks, cells, users = gain.shape
    offset = np.arange(networks)[:, None]
    place = (offset * cells + cell) * users + np.arange(users)
    received *= radio.LN_PER_DB
    np.exp(received, out=received)
    flat = received.reshape(-1)
    own = flat[place]
    flat[place] = 0.0  # excluded before weighting by load, not subtracted after
    bins = (offset * cells + cell).ravel()
    loading = radio.couple_load(
        received, own, demand=demand, bins=bins, active=settings.active, load=load, passes=passes
    )
    wanted = loading.wanted.ravel()
    airtime = radio.fair_airtime(
        loading.rate.ravel(), loading.cap.ravel(), bins=bins, wanted=wanted, fairness=_alpha(settings.fairness).ravel()
    ).reshape(own.shape)
    slack = np.maximum(1.0 - wanted, 0.0).astype(np.float32)[bins].reshape(own.shape)
    served = loading.rate * airtime
    return Outcome(
        cell=cell,
        sinr=loading.sinr,
        rate=loading.rate,
        served=served,
        latency=radio.latency_s(loading.rate, airtime, slack=slack),
        satisfied=served >= demand * SATISFIED_SHARE,
        load=loading.load,
        power_w=radio.cell_power_w(settings.power, loading.load, asleep=~settings.active),
        bins=bins,
    )


def _alpha(fairness: F32) -> F64:
    return np.power(4.0, fairness.astype(np.float64))


def _received_dbm(gain: F32, theta: F32, *, settings: Settings) -> F32:
    networks, cells, _ = gain.shape
    sites = theta.shape[1]
    lost = theta[:, :, None, :] - settings.tilt.reshape(networks, sites, cells // sites, 1)
    lost *= lost
    lost *= 0.12
    np.minimum(lost, 20.0, out=lost)
    received = lost.reshape(gain.shape)
    np.subtract(gain, received, out=received)
    received += settings.power[:, :, None]
    if not settings.active.all():
        received[~settings.active] = ASLEEP_DB
    return received


def _attach(received: F32, *, cio: F32, cell: I64) -> I64:
    """Strongest cell by received power + CIO; the present cell keeps the user within the hysteresis. Ties go to the lower cell.

    One integer maximum instead of an argmax: the five low bits of the float hold 31 - cell, which orders to 0.001 dB.
    """
    _, cells, users = received.shape
    metric = received + (cio + np.float32(_LIFT_DB))[:, :, None]
    present = np.flatnonzero(cell.ravel() >= 0)
    network, user = np.divmod(present, users)
    metric.reshape(-1)[(network * cells + cell.ravel()[present]) * users + user] += HYSTERESIS_DB
    key = metric.view(np.int32)
    key &= ~_FIELD
    key |= (_FIELD - np.arange(cells, dtype=np.int32))[None, :, None]
    found: I64 = _FIELD - (np.maximum.reduce(key, axis=1) & _FIELD).astype(np.int64)
    return found
