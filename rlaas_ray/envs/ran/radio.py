"""Radio, scheduler, latency and power of one step, as arrays: antenna pattern, load coupling, alpha-fair airtime, EARTH watts.

Called by dynamics, the tiny variant and the baselines. Pure; sums stay within one network, so a network gives the same bits
alone and in a batch. Letters: B networks, C cells, U users; `bins` is network * C + cell of each user, flat.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from rlaas_ray.errors import NotBuilt
from rlaas_ray.specs.arrays import F32, F64, I64, Bool

A = TypeVar("A", F32, F64)

BANDWIDTH_MHZ = 18.36  # 51 PRB of 30 kHz in 20 MHz, TS 38.101-1
NOISE_DBM = float(-174.0 + 10.0 * np.log10(BANDWIDTH_MHZ * 1e6) + 9.0)
NOISE_MW = 10.0 ** (NOISE_DBM / 10.0)
MAX_EFFICIENCY, EFFICIENCY_SLOPE, LEAST_SINR = 4.4, 0.6, 0.1  # TR 36.942 Annex A: 0 below -10 dB
LEAST_RATE_MBPS = 0.001
LEAST_LOAD = 0.05  # always-on signalling
FILE_MBIT = 0.5
MAX_LATENCY_S = 10.0
FAIR_PASSES = 10  # eight are exact to 2.5e-16 on 4,263 synthetic overloaded cells, six are not
TRX_PER_CELL = 2
IDLE_W, SLOPE, SLEEP_W, MAX_W = 130.0, 4.7, 75.0, 20.0  # EARTH macro, per TRX (Auer et al. 2011, Table II)
CELL_SLEEP_W = TRX_PER_CELL * SLEEP_W
CELL_MAX_W = TRX_PER_CELL * (IDLE_W + SLOPE * MAX_W)
LN_PER_DB = float(np.log(10.0) / 10.0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Loading(Generic[A]):
    """What load coupling leaves: rates and airtime caps (B, U), demanded airtime and load of each cell (B, C)."""

    sinr: A
    rate: A
    cap: A
    wanted: F64
    load: A


def horizontal_db(phi_deg: F64) -> F64:
    """Loss off the boresight: 65 degrees, at most 25 dB."""
    return np.minimum(12.0 * (phi_deg / 65.0) ** 2, 25.0)


def vertical_db(theta_deg: F64, tilt_deg: F64) -> F64:
    """Loss off the tilt: 10 degrees, at most 20 dB; both measured down from the horizon."""
    return np.minimum(12.0 * ((theta_deg - tilt_deg) / 10.0) ** 2, 20.0)


def rate_mbps(sinr: A) -> A:
    """Truncated Shannon of TR 36.942 Annex A over the whole band, with a floor. Linear SINR."""
    efficiency = np.log2(sinr + 1.0)
    efficiency *= EFFICIENCY_SLOPE
    np.minimum(efficiency, MAX_EFFICIENCY, out=efficiency)
    efficiency *= BANDWIDTH_MHZ
    efficiency[sinr < LEAST_SINR] = 0.0
    np.maximum(efficiency, LEAST_RATE_MBPS, out=efficiency)
    found: A = efficiency
    return found


def couple_load(others_mw: A, own_mw: A, *, demand: A, bins: I64, active: Bool, load: A, passes: int) -> Loading[A]:
    """Fixed point of load and interference. others_mw (B, C, U) without the serving cell (excluded before weighting by load)."""
    cells = active.size
    sinr, rate, cap = own_mw, own_mw, own_mw
    wanted: F64 = np.zeros(cells)
    for _ in range(passes):
        interference = np.matmul(load[:, None, :], others_mw)[:, 0, :]
        interference += NOISE_MW
        sinr = own_mw / interference
        rate = rate_mbps(sinr)
        cap = np.minimum(demand / rate, 1.0)
        wanted = np.bincount(bins, weights=cap.ravel(), minlength=cells).astype(np.float64, copy=False)
        load = np.where(active, np.clip(wanted, LEAST_LOAD, 1.0).reshape(active.shape), 0.0).astype(own_mw.dtype)
    return Loading(sinr=sinr, rate=rate, cap=cap, wanted=wanted.reshape(active.shape), load=load)


def fair_airtime(rate: A, cap: A, *, bins: I64, wanted: F64, fairness: F64, passes: int = FAIR_PASSES) -> A:
    """Demand-limited alpha-fair airtime, flat (n,): x = min(cap, nu w), w = r^((1 - alpha) / alpha). fairness (m,) is alpha.

    Only overloaded cells need work. nu rises from 1 / sum w by nu <- max(nu, (1 - sum over saturated cap) / sum over others
    w): monotone, finite and without a sort; when the saturated users stay the same, so does nu, hence stopping early
    changes no bit.
    """
    chosen = np.flatnonzero(wanted[bins] > 1.0)
    if not len(chosen):
        return cap
    bins, cells = bins[chosen], len(wanted)
    limit = cap[chosen].astype(np.float64)
    weight = rate[chosen].astype(np.float64) ** ((1.0 - fairness) / fairness)[bins]
    total = np.bincount(bins, weights=weight, minlength=cells)
    level = np.zeros(cells)
    np.divide(1.0, total, out=level, where=total > 0.0)
    saturated = np.zeros(len(chosen), dtype=np.bool_)
    for _ in range(passes):
        now = limit <= level[bins] * weight
        if np.array_equal(now, saturated):
            break
        saturated = now
        full = np.bincount(bins, weights=np.where(saturated, limit, 0.0), minlength=cells)
        rest = np.bincount(bins, weights=np.where(saturated, 0.0, weight), minlength=cells)
        # Exactly zero, not nearly: at alpha 0.25 weights span 1e14 and a relative threshold overfills the cell.
        raised = np.zeros(cells)
        np.divide(1.0 - full, rest, out=raised, where=rest > 0.0)
        np.maximum(level, raised, out=level)
    airtime = cap.copy()
    airtime[chosen] = np.minimum(limit, level[bins] * weight)
    return airtime


def latency_s(rate: A, airtime: A, *, slack: A) -> A:
    """Time to move one file: F/r unloaded, F/y in overload."""
    share = np.minimum(airtime + slack, 1.0)
    share *= rate
    share += 1e-6
    found: A = np.minimum(FILE_MBIT / share, MAX_LATENCY_S)
    return found


def cell_power_w(power_dbm: A, load: A, *, asleep: Bool) -> A:
    """EARTH macro power of each cell (both TRX); the table's 2 x 20 W are 46.02 dBm, so 46 dBm draw 0.2 % less than full."""
    drawn = np.exp((power_dbm - 30.0) * LN_PER_DB) * load
    drawn *= SLOPE
    drawn += TRX_PER_CELL * IDLE_W
    drawn[asleep] = CELL_SLEEP_W
    found: A = drawn
    return found


def power_model(name: str) -> None:
    """Refuse a power model that is not built."""
    if name != "earth":
        raise NotBuilt(
            "power model",
            given=name,
            expected="earth",
            cure="tr38864 (NR sleep levels) waits for its table to be checked; use 'earth'.",
        )
