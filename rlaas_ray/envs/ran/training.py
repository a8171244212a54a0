"""The per-cell training view of RanControl: 21 cells share one small policy that proposes settings, rewarded by local deficits.

Found through `registry.training_view("rlaas/RanControl-v1")`. Measured to learn (the flat form is not: +0.2 against +4
points over hold); never used when serving, where the program and the decoder below travel in the bundle as arrays.

Reward of a cell = beta * C * reward of the network + (1 - beta) * local, with local = -C * sum over the cell and its six
most coupled neighbours of
    w1 * s * sum_u sigmoid((lg L_u - lg q) / 0.15) / U + w2 * (D - y) / offered + w3 * (E - 150) / (Emax - Esleep) + w4 *
    unsatisfied / U. q (p95) and s (its slope) are running means per hour of day: with the present step's q, 5 % exceed it
    by definition and the level of the latency becomes invisible.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode

from rlaas_ray.envs import conditioned, modes, vector, view
from rlaas_ray.envs.ran import dynamics, env, measures, radio
from rlaas_ray.policies import decoders
from rlaas_ray.policies import view as programs
from rlaas_ray.policies.preferences import Preference
from rlaas_ray.specs.arrays import F32, F64, I64, Bool

UNITS, PROPOSAL = measures.CELLS, 4
OBSERVATION = 56
BETA = 0.5
_FORGET = 0.02
_WIDTH_LG = 0.15
_HOURS = 24
_MEANS = measures.FEATURES
Weights = Sequence[float] | Sequence[F64]  # of the network's objectives; arrays (B, 1) where each network has its own


class RanView:
    """The view (envs.view.TrainingView)."""

    units = UNITS
    observation_space = gymnasium.spaces.Box(-4.0, 12.0, (OBSERVATION,), np.float32)
    action_space = gymnasium.spaces.Box(-np.inf, np.inf, (PROPOSAL,), np.float32)
    preset: Mapping[str, Any] = {
        "gamma": 0.5,
        "gae_lambda": 0.9,
        "learning_rate": 1e-3,
        "learning_rate_final": 1e-4,
        "clip": 0.2,
        "epochs": 3,
        "share": 0.5,
        "minibatch_size": 2048,
        "gradient_clip": 0.5,
        "entropy_coefficient": 0.0,
        "log_std_initial": -1.5,
        "num_envs_per_runner": 64,
        "batch_size": 64 * 16,
        "normalise_observations": True,
        "scale_rewards": True,
        "network": {"hidden": (64, 64), "activation": "tanh"},
        "policy_gain": 0.01,  # output 0 is exactly hold: training starts at the champion
        "serving": "greedy",
        "time_limit_cpu_s": 45.0,
    }

    @property
    def program(self) -> programs.ViewProgram:
        """Own 13, six neighbours' power, load, users, satisfied (24), hour (2), last objectives (4), network means of the 13."""
        cells = np.arange(UNITS)[:, None] * measures.FEATURES
        around = env.neighbours()[:, :, None] * measures.FEATURES + np.asarray(env.NEIGHBOUR_FEATURES)
        shared = np.concatenate(
            (
                np.arange(measures.HOUR, measures.MODE),
                np.arange(measures.LAST, measures.OBSERVATION),
                measures.OBSERVATION + np.arange(_MEANS),
            )
        )
        index = np.concatenate(
            (cells + np.arange(measures.FEATURES), around.reshape(UNITS, -1), np.tile(shared, (UNITS, 1))), axis=1
        )
        mean = np.zeros((measures.OBSERVATION, _MEANS), np.float32)
        for feature in range(_MEANS):
            mean[feature : measures.HOUR : measures.FEATURES, feature] = 1.0 / UNITS
        return programs.ViewProgram(index=index.astype(np.int64), matrix=mean, offset=np.zeros(_MEANS, np.float32))

    @property
    def decoder(self) -> decoders.TargetDelta:
        """P* = clip(46 + 8 u0), tilt* = 6 + 7.5 u1, alpha = 4^u2, CIO = 6 u3 dB as steps of the env's action; 0 is hold."""
        first = np.arange(UNITS) * measures.FEATURES
        return decoders.TargetDelta(
            gain=_each(0.25, 1.0, 1.0, 1.0),
            base=_each(46.0, 6.0, 0.0, 0.0),
            scale=_each(8.0, 7.5, 1.0, 1.0),
            low=_each(dynamics.POWER_DBM[0], dynamics.TILT_DEG[0], -1.0, -1.0),
            high=_each(dynamics.POWER_DBM[1], dynamics.TILT_DEG[1], 1.0, 1.0),
            obs_offset=_each(measures.POWER_CENTRE, measures.TILT_CENTRE, 0.0, 0.0),
            obs_scale=_each(measures.POWER_SCALE, measures.TILT_SCALE, 0.0, 0.0),
            obs_index=np.stack((first, first + 1, first, first), axis=1).ravel().astype(np.int64),
        )

    def make_vector(
        self,
        *,
        num_envs: int,
        seed: int,
        first_index: int = 0,
        mode: str | None = None,
        weights: modes.Given | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> CellVectorEnv:
        """num_envs * 21 rows."""
        params = dynamics.params(mode, weights=weights, **(config or {}))
        return CellVectorEnv(self, params, num_envs=num_envs, seed=seed, first_index=first_index)

    def make_conditioned(
        self,
        *,
        num_envs: int,
        seed: int,
        first_index: int = 0,
        preference: Preference,
        config: Mapping[str, Any] | None = None,
    ) -> CellVectorEnv:
        """num_envs * 21 rows, each network under the weights of its day."""
        params = dynamics.params(None, weights=None, **(config or {}))
        own = view.ConditionedView(own=self, preference=preference)
        drawn = conditioned.Draws(num_envs=num_envs, seed=seed, first_index=first_index, size=preference.size)
        return CellVectorEnv(own, params, num_envs=num_envs, seed=seed, first_index=first_index, drawn=drawn)


class CellVectorEnv(gymnasium.vector.VectorEnv[Any, Any, Any]):
    """Rows are cells and never end: behind them networks start their next day unseen, and `info` tells of their true episodes."""

    def __init__(
        self,
        own: view.TrainingView,
        params: dynamics.Params,
        *,
        num_envs: int,
        seed: int | None,
        first_index: int,
        drawn: conditioned.Draws | None = None,
    ) -> None:
        """`drawn`: weights of each network, which change with its days and which the rows observe."""
        self.view, self.networks = own, num_envs
        self.num_envs = num_envs * UNITS
        self.single_observation_space, self.single_action_space = own.observation_space, own.action_space
        self.observation_space = gymnasium.vector.utils.batch_space(own.observation_space, self.num_envs)
        self.action_space = gymnasium.vector.utils.batch_space(own.action_space, self.num_envs)
        self._inner = vector.DomainVectorEnv(
            _Detailed(params), num_envs=num_envs, seed=seed, first_index=first_index, autoreset=AutoresetMode.SAME_STEP
        )
        self.metadata = {**self._inner.metadata, "autoreset_mode": AutoresetMode.NEXT_STEP}
        self._program, self._decoder = own.program, own.decoder
        self._tail = Tail()
        self._weights, self._drawn = params.weights, drawn
        self._neighbours = env.neighbours()
        self._flat: Any = np.zeros((num_envs, measures.OBSERVATION), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[F32, dict[str, Any]]:
        """New days in all networks; what the rewards know of latencies stays."""
        self._flat, _ = self._inner.reset(seed=seed)
        if self._drawn is not None:
            self._drawn.begin(seed)
        return self._rows(), {}

    def step(self, actions: Any) -> tuple[F32, F64, Bool, Bool, dict[str, Any]]:
        """Actions (rows, 4): the cells' proposals u, as the policy drew them."""
        proposed = np.asarray(actions, dtype=np.float64).reshape(self.networks, -1)
        executed = self._decoder.decode(proposed, observations=self._flat)
        self._flat, reward, _, truncated, info = self._inner.step(executed)
        weights: Weights = self._weights
        if self._drawn is not None:
            now = self._drawn.weights
            weights = tuple(now[:, k : k + 1] for k in range(now.shape[1]))
            reward = conditioned.weighed(info["normalised"], weights=now)
            if truncated.any():
                self._drawn.end(truncated)
        local = self._tail.local_reward(info, weights=weights, neighbours=self._neighbours)
        mixed = BETA * UNITS * reward[:, None] + (1.0 - BETA) * local
        never = np.zeros(self.num_envs, np.bool_)
        return self._rows(), mixed.ravel(), never, never.copy(), {"env_reward": reward, "env_done": truncated}

    def _rows(self) -> F32:
        seen = self._flat
        if self._drawn is not None:
            seen = np.concatenate([seen, self._drawn.weights.astype(np.float32)], axis=1)
        return self._program.apply(seen).reshape(self.num_envs, -1)


class Tail:
    """Running lg p95 and its slope for each hour of day, 2 % a sample; the first sample of an hour sets it."""

    def __init__(self) -> None:
        self.lg_p95 = np.full(_HOURS, np.nan)
        self.slope = np.full(_HOURS, np.nan)

    def local_reward(self, info: Mapping[str, Any], *, weights: Weights, neighbours: I64) -> F64:
        """(B, 21): minus the deficits around each cell, on the scale of C * network reward; learns from the sample afterwards."""
        hour: I64 = info["hour"] // 4
        tail: F64 = info["lg_tail"]
        slope = (tail[:, 2] - tail[:, 0]) / (0.05 * np.log10(200.0))
        self._start(hour, lg_p95=tail[:, 1], slope=slope)
        deficits = self._deficits(info, hour=hour, weights=weights)
        self._learn(hour, lg_p95=tail[:, 1], slope=slope)
        found: F64 = -UNITS * (deficits + deficits[:, neighbours].sum(axis=2))
        return found

    def _deficits(self, info: Mapping[str, Any], *, hour: I64, weights: Weights) -> F64:
        demand, cell = info["demand"], info["attached"]
        networks, users = demand.shape
        distance = (info["lg_latency"] - self.lg_p95[hour][:, None]) / _WIDTH_LG
        exceeds = 1.0 / (1.0 + np.exp(-distance))
        offered = demand.sum(axis=1, dtype=np.float64)[:, None]
        each = (weights[0] / users) * self.slope[hour][:, None] * exceeds
        each += weights[1] * (demand - info["served"]) / offered
        each += (weights[3] / users) * ~info["satisfied"]
        bins = (np.arange(networks)[:, None] * UNITS + cell).ravel()
        summed = np.bincount(bins, weights=each.ravel(), minlength=networks * UNITS).reshape(networks, UNITS)
        spent = (info["power_w"] - radio.CELL_SLEEP_W) / (measures.ENERGY_MAX_W - measures.ENERGY_SLEEP_W)
        return np.asarray(summed + weights[2] * spent, dtype=np.float64)

    def _start(self, hour: I64, *, lg_p95: F64, slope: F64) -> None:
        for new in np.unique(hour[np.isnan(self.lg_p95[hour])]):
            self.lg_p95[new], self.slope[new] = lg_p95[hour == new].mean(), slope[hour == new].mean()

    def _learn(self, hour: I64, *, lg_p95: F64, slope: F64) -> None:
        count = np.bincount(hour, minlength=_HOURS)
        seen = count > 0
        kept = (1.0 - _FORGET) ** count[seen]
        for running, sample in ((self.lg_p95, lg_p95), (self.slope, slope)):
            mean = np.bincount(hour, weights=sample, minlength=_HOURS)[seen] / count[seen]
            running[seen] = kept * running[seen] + (1.0 - kept) * mean


class _Detailed(env.RanControl):
    """RanControl whose info also carries what each user and each cell got."""

    reported = (
        *env.RanControl.reported, "hour", "demand", "served", "satisfied", "lg_latency", "lg_tail", "power_w", "attached",
    )  # fmt: skip


def _each(power: float, tilt: float, fairness: float, cio: float) -> F64:  # noqa: PLR0917 - four columns
    return np.tile(np.asarray([power, tilt, fairness, cio], dtype=np.float64), UNITS)
