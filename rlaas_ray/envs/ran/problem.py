"""Problem type `5g`: power for each cell and PRB of one frozen network, as a pymoo problem with four objectives.

Met by optimize/problems.py. Budgets and shares, not independent powers: the obvious encoding starts every cell at full
power and never sees the energy axis (measured: hypervolume 0.001 against 0.15). Never moves time: one drop, no scheduler.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from pymoo.core.problem import Problem

from rlaas_ray.envs import philox
from rlaas_ray.envs.ran import channel, layout, power_control, radio
from rlaas_ray.errors import InvalidInput, nearest
from rlaas_ray.specs.arrays import F64, I64, Bool

USERS = 210
HOTSPOTS, HOTSPOT_SHARE, PRIORITY_SHARE = 2, 0.3, 0.1
TILT_DEG = 6.0
ANTENNA_DBI = 17.0
P_MAX_W = radio.TRX_PER_CELL * radio.MAX_W
BLOCK_PRB = 4  # Rayleigh fading is constant over so many PRBs
PRB_HZ = 360e3
PRB_MHZ = PRB_HZ / 1e6
NOISE_W = 10 ** ((-174.0 + 9.0 - 30.0) / 10) * PRB_HZ  # thermal, UE noise figure 9 dB
SLEEP_BELOW = 0.02  # of the budget
MBPS_WANTED = 0.5
PRIORITY_WEIGHT = 4
# Purposes of the generator; the channel's own are 100 to 102, the env's are below 100.
_POINT, _SPOT, _CLASS, _FADING, _OUTAGE = 200, 201, 202, 203, 204

OBJECTIVES: tuple[tuple[str, str, Literal["min", "max"]], ...] = (
    ("latency_p95", "s", "min"),
    ("throughput", "Mbps", "max"),
    ("energy", "W", "min"),
    ("satisfied", "1", "max"),
)
MODES: Mapping[str, tuple[float, float, float, float]] = {
    "normal": (0.25, 0.25, 0.25, 0.25),
    "emergency": (0.40, 0.15, 0.05, 0.40),
    "energy_saving": (0.15, 0.15, 0.50, 0.20),
    "revenue": (0.15, 0.55, 0.10, 0.20),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Network:
    """One frozen network: who is served where, and every gain. U UEs, C cells, K PRBs.

    `user` (K, C) is the UE that cell c serves on PRB k, -1 for none; `own` (K, C) its gain from that cell;
    `cross` (K, C, C) its gain from every other cell, zero on the diagonal, so that interference is never a difference.
    """

    user: I64
    own: F64
    cross: F64
    priority: Bool  # (U,)
    silent: Bool  # (C,) cells that an outage holds asleep

    @property
    def cells(self) -> int:
        """C."""
        return int(self.user.shape[1])

    @property
    def prbs(self) -> int:
        """K."""
        return int(self.user.shape[0])


def drop(*, seed: int) -> tuple[F64, Bool]:
    """One frozen drop: gain (U, C) linear with antennas at tilt 6 degrees, priority (U,). Section 2, three in ten in hotspots."""
    scenario = channel.Scenario()
    net = scenario.network()
    points = layout.uniform_points(net, philox.uniforms(seed, purpose=_POINT, shape=(USERS + HOTSPOTS, 13)))
    spot = philox.uniforms(seed, purpose=_SPOT, shape=(USERS, 4))
    centres = points[USERS:][np.minimum((spot[:, 1] * HOTSPOTS).astype(np.int64), HOTSPOTS - 1)]
    crowd = layout.hotspot_points(net, centres, normal=philox.normals(spot[:, 2:4]))
    points = np.where((spot[:, 0] < HOTSPOT_SHARE)[:, None], crowd, points[:USERS])
    made = channel.drop(scenario, net, points=points, seed=seed)
    horizontal = radio.horizontal_db(layout.off_boresight(made.azimuth_deg))  # (U, S, 3)
    vertical = radio.vertical_db(made.depression_deg, np.full_like(made.depression_deg, TILT_DEG))
    gain_db = made.gain_db[:, :, None] + ANTENNA_DBI - horizontal - vertical[:, :, None]
    priority = philox.uniforms(seed, purpose=_CLASS, shape=(USERS,)) < PRIORITY_SHARE
    return np.power(10.0, gain_db.reshape(USERS, -1) / 10.0), priority


def outage(*, seed: int, cells: int) -> Bool:
    """(C,) the three cells of the site that the emergency silences."""
    sites = cells // layout.SECTORS
    site = int(philox.uniforms(seed, purpose=_OUTAGE, shape=(1,))[0] * sites)
    return np.asarray(np.arange(cells) // layout.SECTORS == site, dtype=np.bool_)


def network(*, seed: int, n_prb: int, silent: Bool, gain: F64, priority: Bool) -> Network:
    """UEs on their strongest awake cell, round-robin over its PRBs, with block fading. gain (U, C) linear, priority (U,)."""
    users, cells = gain.shape
    serving = np.where(silent, 0.0, gain).argmax(axis=1)
    user = np.full((n_prb, cells), -1, dtype=np.int64)
    for cell in range(cells):
        mine = np.flatnonzero(serving == cell)
        if len(mine):
            user[:, cell] = np.resize(mine, n_prb)
    blocks = -(-n_prb // BLOCK_PRB)
    fading = -np.log(philox.uniforms(seed, purpose=_FADING, shape=(users, cells, blocks)))
    block = np.arange(n_prb) // BLOCK_PRB
    # (K, C, C): gain at the UE of (k, c) from cell j
    at = gain[user] * fading[user, :, block[:, None]]
    at[user < 0] = 0.0
    own = np.diagonal(at, axis1=1, axis2=2).copy()
    at[:, np.arange(cells), np.arange(cells)] = 0.0
    return Network(user=user, own=own, cross=at, priority=priority, silent=silent)


def powers(x: F64, *, net: Network) -> tuple[F64, F64]:
    """Watts from variables. x (n, C + C*K) in [0, 1] -> per cell (n, C), 0 asleep, and per cell and PRB (n, C, K)."""
    cells, prbs = net.cells, net.prbs
    if x.ndim != 2 or x.shape[1] != cells * (1 + prbs) or x.dtype != np.float64:
        raise InvalidInput(
            "variables of problem 5g", given=(x.shape, str(x.dtype)), expected=f"(n, {cells * (1 + prbs)}) float64"
        )
    if not ((x >= 0) & (x <= 1)).all():
        raise InvalidInput(
            "variables of problem 5g", given="values outside [0, 1] or NaN", expected="budgets and shares in [0, 1]"
        )
    budget = x[:, :cells]
    cell_w = np.where((budget >= SLEEP_BELOW) & ~net.silent, P_MAX_W * budget, 0.0)
    share = x[:, cells:].reshape(-1, cells, prbs)
    total = share.sum(axis=2, keepdims=True)
    # All shares zero: nothing is preferred, so the budget spreads evenly.
    share = np.where(total > 0, share / np.where(total > 0, total, 1.0), 1.0 / prbs)
    return cell_w, cell_w[:, :, None] * share


def rates(prb_w: F64, *, net: Network) -> F64:
    """Mbps of every (PRB, cell). prb_w (n, C, K) -> (K, C, n): one stacked product over PRBs for the whole population."""
    power = np.ascontiguousarray(prb_w.transpose(2, 1, 0))
    sinr = net.own[:, :, None] * power
    sinr /= np.matmul(net.cross, power) + NOISE_W
    efficiency = np.log2(1.0 + sinr)
    efficiency *= radio.EFFICIENCY_SLOPE
    np.minimum(efficiency, radio.MAX_EFFICIENCY, out=efficiency)
    efficiency *= PRB_MHZ
    return efficiency


def energy_w(cell_w: F64) -> F64:
    """EARTH macro power of the network. cell_w (n, C), 0 is asleep -> (n,)."""
    awake = radio.TRX_PER_CELL * radio.IDLE_W + radio.SLOPE * cell_w
    return np.asarray(np.where(cell_w > 0, awake, radio.CELL_SLEEP_W).sum(axis=1), dtype=np.float64)


def evaluate(x: F64, *, net: Network, weighted: bool = False) -> F64:
    """The four objectives in natural units, in the order of OBJECTIVES. x (n, d) -> (n, 4).

    `weighted`: priority UEs count four times in latency and satisfaction (mode `emergency`). A cell that sleeps serves
    nobody, so its UEs have rate 0 and the latency cap: sleeping is never free here.
    """
    cell_w, prb_w = powers(x, net=net)
    rate = rates(prb_w, net=net).reshape(net.prbs * net.cells, -1)
    owner = net.user.reshape(-1)
    order = np.argsort(owner, kind="stable")
    order = order[np.searchsorted(owner[order], 0) :]  # without the PRBs of empty cells
    scheduled, start = np.unique(owner[order], return_index=True)
    user_rate = np.add.reduceat(rate[order], start, axis=0)  # (scheduled, n)
    latency = np.minimum(radio.FILE_MBIT / np.maximum(user_rate, 1e-9), radio.MAX_LATENCY_S)
    count = np.where(net.priority[scheduled] & weighted, PRIORITY_WEIGHT, 1)
    unserved = np.setdiff1d(np.arange(len(net.priority)), scheduled)
    all_weight = count.sum() + np.where(net.priority[unserved] & weighted, PRIORITY_WEIGHT, 1).sum()
    satisfied = (count[:, None] * (user_rate >= MBPS_WANTED)).sum(axis=0) / all_weight
    p95 = np.quantile(np.repeat(latency, count, axis=0), 0.95, axis=0)
    return np.stack([p95, user_rate.sum(axis=0), energy_w(cell_w), satisfied], axis=1)


class RanPowerProblem(Problem):  # type: ignore[misc, no-any-unimported]  # pymoo has no types
    """`5g` for pymoo: minimised objectives (those to maximise come negated), all variables in [0, 1]."""

    MODES: ClassVar[Mapping[str, tuple[float, float, float, float]]] = MODES
    objectives = OBJECTIVES

    def __init__(self, *, mode: str = "normal", n_prb: int = 51, drop_seed: int = 0) -> None:
        if mode not in MODES:
            raise InvalidInput(
                "mode of problem 5g", given=mode, expected=", ".join(MODES), cure=nearest(mode, list(MODES))
            )
        if not 1 <= n_prb <= 273:
            raise InvalidInput("n_prb of problem 5g", given=n_prb, expected="1 to 273, the widest NR carrier")
        self.mode = mode
        gain, priority = drop(seed=drop_seed)
        cells = gain.shape[1]
        silent = outage(seed=drop_seed, cells=cells) if mode == "emergency" else np.zeros(cells, dtype=np.bool_)
        self.net = network(seed=drop_seed, n_prb=n_prb, silent=silent, gain=gain, priority=priority)
        self.weights = np.array(MODES[mode], dtype=np.float64)
        capacity = cells * n_prb * PRB_MHZ * radio.MAX_EFFICIENCY
        self.box = (
            np.array([0.0, -capacity, cells * radio.CELL_SLEEP_W, -1.0]),
            np.array([radio.MAX_LATENCY_S, 0.0, cells * radio.CELL_MAX_W, 0.0]),
        )
        super().__init__(n_var=cells * (1 + n_prb), n_obj=4, xl=0.0, xu=1.0)

    def natural(self, x: F64) -> F64:
        """The objectives in natural units. x (n, d) -> (n, 4)."""
        return evaluate(x, net=self.net, weighted=self.mode == "emergency")

    def _evaluate(self, x: F64, out: dict[str, Any], *_: object, **__: object) -> None:
        out["F"] = self.natural(x) * np.array([1.0, -1.0, 1.0, -1.0])

    def anchors(self) -> dict[str, F64]:
        """Points that an engineer would try first: even power at five budgets, and WMMSE; name -> (d,)."""
        cells, prbs = self.net.cells, self.net.prbs
        found: dict[str, F64] = {}
        for budget in (1.0, 0.5, 0.25, 0.1, 0.02):
            found[f"even {budget:.0%}"] = np.concatenate([np.full(cells, budget), np.ones(cells * prbs)])
        best = power_control.sum_power(
            self.net.own, cross=self.net.cross, noise=NOISE_W, limit=np.where(self.net.silent, 0.0, P_MAX_W)
        )  # (K, C) watts
        share = best / np.maximum(best.max(axis=0), 1e-30)
        found["wmmse"] = np.concatenate([np.minimum(best.sum(axis=0) / P_MAX_W, 1.0), share.T.reshape(-1)])
        return found
