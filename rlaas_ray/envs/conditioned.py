"""Conditioned: any vector env whose agent is told weights over the objectives, and is rewarded by them.

Made by `train/worlds.py` for `preference: conditioned`. The weights of an episode are a function of the world's seed, its index
and the number of the episode alone, so one env gives the same bits alone and among a thousand, in whichever actor.

`B` envs, `m` objectives. Abels et al. 2019 (conditioned networks); the scalarisation is linear.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from rlaas_ray.envs import philox
from rlaas_ray.errors import InvalidInput
from rlaas_ray.policies import preferences, spaces
from rlaas_ray.policies.preferences import Preference
from rlaas_ray.specs.arrays import F64, Bool

VectorEnv = gymnasium.vector.VectorEnv[Any, Any, Any]
CORNERS = 0.2  # of the episodes have all weight on one objective; the others are uniform on the simplex
WARM_UP_ENVS, WARM_UP_STEPS = 16, 256
_PURPOSE = 0x50726566  # of the draws, far from those of the domains
_TINY = 1e-9


class Draws:
    """The weights (B, m) of the episodes that run in B envs, next ones when they end."""

    weights: F64
    _streams: philox.Streams

    def __init__(self, *, num_envs: int, seed: int | None, first_index: int, size: int) -> None:
        self._num_envs, self._first_index, self._size = num_envs, first_index, size
        self._begun = False
        self._take(0 if seed is None else seed)

    def begin(self, seed: int | Sequence[int] | None) -> None:
        """All envs start an episode: the first of a new seed, else the next one."""
        if seed is not None:
            self._take(seed)
        elif self._begun:
            self.end(np.ones(self._num_envs, dtype=np.bool_))
        self._begun = True

    def end(self, rows: Bool) -> None:
        """The episodes of these envs (B,) are over."""
        episode = self._streams.episode + rows.astype(np.uint32)
        self._streams = philox.Streams(seed=self._streams.seed, index=self._streams.index, episode=episode)
        self.weights = self.weights.copy()
        self.weights[rows] = draws(self._streams.take(rows), size=self._size)

    def _take(self, seed: int | Sequence[int]) -> None:
        self._streams = philox.streams(seed, num_envs=self._num_envs, first_index=self._first_index)
        self.weights = draws(self._streams, size=self._size)


class Conditioned(gymnasium.vector.VectorEnv[Any, Any, Any]):
    """`env` with observations in `preferences.space` and rewards w . r, new weights w for each episode.

    `seed` and `first_index` are those with which `env` was made. `info` is the env's own.
    """

    def __init__(self, env: VectorEnv, preference: Preference, *, seed: int, first_index: int = 0) -> None:
        self.env, self.preference = env, preference
        self.num_envs, self.metadata = env.num_envs, env.metadata
        own = env.single_observation_space
        self.single_observation_space = preferences.space(own, size=preference.size)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.single_action_space, self.action_space = env.single_action_space, env.action_space
        self._same_step = env.metadata.get("autoreset_mode") == AutoresetMode.SAME_STEP
        self._drawn = Draws(num_envs=self.num_envs, seed=seed, first_index=first_index, size=preference.size)
        self._ended: Bool = np.zeros(self.num_envs, dtype=np.bool_)

    @property
    def weights(self) -> F64:
        """Of the episodes that run now, (B, m)."""
        return self._drawn.weights

    def reset(
        self, *, seed: int | Sequence[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """All envs start an episode, each with its weights."""
        self._drawn.begin(seed)
        self._ended = np.zeros(self.num_envs, dtype=np.bool_)
        seen, info = self.env.reset(seed=seed, options=options)  # type: ignore[arg-type]  # a list is fine
        return self._observed(seen), info

    def step(self, actions: Any) -> tuple[dict[str, Any], F64, Bool, Bool, dict[str, Any]]:
        """As the env, the reward by the weights of the episode that the step belongs to."""
        over = self._ended
        seen, _, terminated, truncated, info = self.env.step(actions)
        self._ended = np.asarray(terminated | truncated, dtype=np.bool_)
        reward = weighed(scaled(info, self.preference, rows=self.num_envs), weights=self.weights)
        if self._same_step:
            if self._ended.any():
                self._close(info)
                self._drawn.end(self._ended)
        elif over.any():  # NEXT_STEP: this step began their next episodes and ignored the action
            reward = np.where(over, 0.0, reward)
            self._drawn.end(over)
        return self._observed(seen), reward, terminated, truncated, info

    def close(self, **kwargs: Any) -> None:
        """Release the env."""
        self.env.close(**kwargs)

    def _observed(self, seen: Any) -> dict[str, Any]:
        return preferences.observed(seen, weights=self.weights.astype(np.float32))

    def _close(self, info: dict[str, Any]) -> None:
        """The last observations, under the weights of the episode that ended."""
        last = np.full(self.num_envs, None, dtype=object)
        for row in np.flatnonzero(self._ended):
            last[row] = preferences.observed(info["final_obs"][row], weights=self.weights[row].astype(np.float32))
        info["final_obs"] = last


def draws(streams: philox.Streams, *, size: int) -> F64:
    """Weights (B, m) of these episodes: 4 of 5 uniform on the simplex (Dirichlet(1)), 1 of 5 a corner. Exact in float32."""
    count = -(-(2 + size) // philox.WORDS_PER_BLOCK)
    blocks = np.arange(count, dtype=np.uint32)
    zeros = np.zeros(len(streams.seed), dtype=np.uint32)
    words = streams.words(blocks, t=zeros, purpose=np.full(count, _PURPOSE, dtype=np.uint32))
    uniform = philox.u01(words)
    parts = -np.log(uniform[:, 2 : 2 + size])
    total = parts[:, 0].copy()
    for column in range(1, size):  # a sum over an axis may depend on how many rows there are
        total += parts[:, column]
    corner = np.eye(size)[np.minimum((uniform[:, 1] * size).astype(np.int64), size - 1)]
    drawn = np.where(uniform[:, :1] < CORNERS, corner, parts / total[:, None])
    # What the agent is told is what it is rewarded by.
    return np.asarray(drawn.astype(np.float32), dtype=np.float64)


def weighed(vector: F64, *, weights: F64) -> F64:
    """The product w . r of each row, (B,): vector and weights (B, m). Column by column, so that no bit depends on B."""
    total = weights[:, 0] * vector[:, 0]
    for column in range(1, vector.shape[1]):
        total += weights[:, column] * vector[:, column]
    return np.asarray(total, dtype=np.float64)


def scaled(info: Mapping[str, Any], preference: Preference, *, rows: int) -> F64:
    """What the weights weigh of this step, (B, m), larger is better."""
    if preference.scale is None:
        return told(info, "normalised", rows=rows, size=preference.size)
    raw = told(info, "objectives", rows=rows, size=preference.size)
    return np.asarray(raw * (preference.signs / np.asarray(preference.scale)))


def told(info: Mapping[str, Any], name: str, *, rows: int, size: int) -> F64:
    """An entry (B, m) of this step's info. Under SAME_STEP the last step of an episode may tell it in `final_info`.

    Raises InvalidInput where the env does not tell one number for each objective.
    """
    found = np.asarray(info[name], dtype=np.float64) if name in info else None
    final = info.get("final_info")
    if isinstance(final, Mapping) and name in final:
        last = np.asarray(final[name], dtype=np.float64)
        ended = np.asarray(info["_final_info"], dtype=np.bool_)
        found = np.where(ended[:, None], last, np.zeros_like(last) if found is None else found)
    if found is None:  # a step on which every env was reset
        return np.zeros((rows, size))
    if found.shape != (rows, size):
        raise InvalidInput(
            f"info[{name!r}] of the env",
            given=f"shape {found.shape}",
            expected=f"{size} numbers for each env, in the order of metadata['objectives']",
            cure="Tell them at every step and every reset.",
        )
    return found


def preference_of(env: str, make_vector: Callable[[int], VectorEnv], *, seed: int) -> Preference:
    """What weights of this env weigh, equal ones as the default: its `normalised` entries, else its objectives over their spread.

    The spread is the standard deviation over 4,096 steps of random actions, fixed from then on; of an objective that is
    constant, its size. Raises InvalidInput for an env without objectives.
    """
    worlds = make_vector(WARM_UP_ENVS)
    try:
        objectives = _objectives(env, worlds.metadata)
        _, info = worlds.reset(seed=seed)
        scale = None if "normalised" in info else _spread(env, worlds, size=len(objectives), seed=seed)
    finally:
        worlds.close()
    share = 1.0 / len(objectives)
    return Preference(objectives=objectives, scale=scale, default=(share,) * len(objectives))


def _objectives(env: str, metadata: Mapping[str, Any]) -> tuple[preferences.Objective, ...]:
    given = metadata.get("objectives") or ()
    if len(given) < 2:
        raise InvalidInput(
            f"objectives of {env}",
            given=list(given) or "none",
            expected="two or more in metadata['objectives'], and their values in info['objectives'] at every step",
            cure="`rlaas env show ENV` names an env's objectives.",
        )
    return tuple(preferences.Objective(name=name, unit=unit, direction=way) for name, unit, way in given)


def _spread(env: str, worlds: VectorEnv, *, size: int, seed: int) -> tuple[float, ...]:
    rng = np.random.default_rng(seed)
    space, steps = worlds.single_action_space, []
    space.seed(int(rng.integers(2**31)))
    seen, _ = worlds.reset(seed=seed)
    over = np.zeros(WARM_UP_ENVS, dtype=np.bool_)
    for _ in range(WARM_UP_STEPS):
        mask = spaces.action_mask(worlds.single_observation_space, seen)
        chosen = [space.sample() if mask is None else _allowed(row, space=space, rng=rng) for row in _rows(mask)]
        seen, _, terminated, truncated, info = worlds.step(np.stack(chosen))
        if "objectives" not in info and "final_info" not in info and not over.all():
            raise InvalidInput(
                f"info of {env}",
                given=sorted(info),
                expected="objectives, one number for each of metadata['objectives']",
                cure="Tell them at every step and every reset.",
            )
        steps.append(told(info, "objectives", rows=WARM_UP_ENVS, size=size)[~over])
        over = np.asarray(terminated) | np.asarray(truncated)
        if worlds.metadata.get("autoreset_mode") == AutoresetMode.SAME_STEP:
            over = np.zeros_like(over)
    values = np.concatenate(steps)
    spread, level = values.std(axis=0), np.abs(values).mean(axis=0)
    chosen_scale = np.where(spread > _TINY * np.maximum(level, 1.0), spread, np.where(level > _TINY, level, 1.0))
    return tuple(float(one) for one in chosen_scale)


def _rows(mask: Bool | None) -> Sequence[Any]:
    return [None] * WARM_UP_ENVS if mask is None else list(mask)


def _allowed(mask: Bool, *, space: Any, rng: np.random.Generator) -> Any:
    """An allowed action of a row, at random; any where nothing is (the last observation of an episode)."""
    if not isinstance(space, gymnasium.spaces.Discrete) or not mask.any():
        return space.sample()
    return np.int64(space.start) + rng.choice(np.flatnonzero(mask))
