"""A domain's pure functions as a Gymnasium VectorEnv and a plain Env.

Called by registry.py. Holds the only state: blocks of environments small enough for the L2 cache, their streams and what is
to be reset. Never draws a number itself and never knows what the domain means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from rlaas_ray.envs import philox
from rlaas_ray.errors import Conflict
from rlaas_ray.specs.arrays import F64, I64, Array, Bool

State = dict[str, Any]
Seen = Any  # observations of a batch: an array, or a dict of arrays, each with the batch axis first
Step = tuple[State, Seen, F64, F64, Bool, Bool, dict[str, Any]]

BLOCK = 32


class Domain(Protocol):
    """What an environment is: spaces, objectives and two pure functions over a batch."""

    @property
    def observation_space(self) -> gymnasium.Space[Any]: ...

    @property
    def action_space(self) -> gymnasium.Space[Any]: ...

    @property
    def objectives(self) -> list[tuple[str, str, str]]: ...

    @property
    def reported(self) -> tuple[str, ...]:
        """The entries of info that leave through Gymnasium."""
        ...

    @property
    def metadata(self) -> Mapping[str, Any]:
        """`modes`, `costs` and `cost_limits`: names and limits, costs in the order of the cost columns."""
        ...

    def check(self, action: Any) -> Array:
        """The batch of actions as the dynamics take them; raises InvalidInput before anything moves."""
        ...

    def reset(self, streams: philox.Streams) -> tuple[State, Seen, dict[str, Any]]: ...

    def step(self, state: State, action: Array, *, streams: philox.Streams) -> Step: ...

    def draw(self, state: State) -> Array:
        """The first row of a batch of states as a picture, uint8 (height, width, 3)."""
        ...


class DomainVectorEnv(gymnasium.vector.VectorEnv[Any, Any, Any]):
    """`num_envs` copies of a domain. NEXT_STEP: the step after an episode's end resets, ignoring its action.

    SAME_STEP: the observation is already the next episode's, and `info["final_obs"]` holds the last one. An int seed gives
    environment i the key (seed, first_index + i), a list gives (seed_i, 0); each reset starts the next episode of the same
    key.
    """

    def __init__(
        self,
        domain: Domain,
        *,
        num_envs: int,
        seed: int | None = None,
        first_index: int = 0,
        autoreset: AutoresetMode = AutoresetMode.NEXT_STEP,
        block: int = BLOCK,
    ) -> None:
        self.domain = domain
        self.num_envs = num_envs
        self.metadata = {
            "render_modes": [],
            "objectives": list(domain.objectives),
            **domain.metadata,
            "autoreset_mode": autoreset,
        }
        self.single_observation_space = domain.observation_space
        self.single_action_space = domain.action_space
        self.observation_space = batch_space(domain.observation_space, num_envs)
        self.action_space = batch_space(domain.action_space, num_envs)
        self._autoreset, self._first_index = autoreset, first_index
        self._slices = [slice(start, min(start + block, num_envs)) for start in range(0, num_envs, block)]
        self._states: list[State] = []
        self._ended = np.zeros(num_envs, dtype=np.bool_)
        self._streams = None if seed is None else philox.streams(seed, num_envs=num_envs, first_index=first_index)

    def reset(
        self, *, seed: int | Sequence[int] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Seen, dict[str, Any]]:
        """All environments start an episode: episode 0 of a new seed, else the next one."""
        if seed is not None:
            self._streams = philox.streams(seed, num_envs=self.num_envs, first_index=self._first_index)
        elif self._streams is None:
            drawn = int(np.random.SeedSequence().generate_state(1)[0])
            self._streams = philox.streams(drawn, num_envs=self.num_envs, first_index=self._first_index)
        elif self._states:
            self._next_episode(np.ones(self.num_envs, dtype=np.bool_))
        self._ended[:] = False
        started = [self.domain.reset(self._streams.take(rows)) for rows in self._slices]
        self._states = [state for state, _, _ in started]
        return _joined([seen for _, seen, _ in started]), self._report([info for _, _, info in started])

    def step(self, actions: Any) -> tuple[Seen, F64, Bool, Bool, dict[str, Any]]:
        """Observations, rewards (float64), terminations, truncations, info with objectives, normalised, cost."""
        if self._streams is None or not self._states:
            raise Conflict("the environment has not been reset", cure="Call reset() first.")
        actions = self.domain.check(actions)
        restart = self._ended if self._autoreset is AutoresetMode.NEXT_STEP else np.zeros(self.num_envs, np.bool_)
        if restart.any():
            self._next_episode(restart)
        steps = [
            self._advance(number, actions=actions[rows], restart=restart[rows])
            for number, rows in enumerate(self._slices)
        ]
        seen = _joined([step[0] for step in steps])
        rewards, terminated, truncated = (np.concatenate([step[k] for step in steps]) for k in (1, 2, 3))
        info = self._report([step[4] for step in steps])
        self._ended = terminated | truncated
        if self._autoreset is AutoresetMode.SAME_STEP and self._ended.any():
            seen = self._restart_now(seen, info=info)
        return seen, rewards, terminated, truncated, info

    def state(self) -> State:
        """A checkpoint: every array of every environment, the streams and who is to be reset."""
        if self._streams is None or not self._states:
            raise Conflict("the environment has not been reset", cure="Call reset() first.")
        joined = {name: np.concatenate([part[name] for part in self._states]) for name in self._states[0]}
        who = {"seed": self._streams.seed, "index": self._streams.index, "episode": self._streams.episode}
        return joined | {f"stream.{k}": v.copy() for k, v in who.items()} | {"stream.ended": self._ended.copy()}

    def resume(self, state: State) -> None:
        """Go on from a checkpoint, bit by bit the same."""
        who = {name: np.asarray(state[f"stream.{name}"], dtype=np.uint32) for name in ("seed", "index", "episode")}
        self._streams = philox.Streams(**who)
        self._ended = np.asarray(state["stream.ended"], dtype=np.bool_).copy()
        kept = {name: value for name, value in state.items() if not name.startswith("stream.")}
        self._states = [{name: value[rows].copy() for name, value in kept.items()} for rows in self._slices]

    def _advance(self, number: int, *, actions: Array, restart: Bool) -> tuple[Seen, F64, Bool, Bool, dict[str, Any]]:
        assert self._streams is not None
        streams = self._streams.take(self._slices[number])
        if not restart.any():
            self._states[number], seen, reward, _, ended, cut, info = self.domain.step(
                self._states[number], actions, streams=streams
            )
            return seen, reward, ended, cut, info
        fresh, seen, info = self.domain.reset(streams.take(restart))
        count = len(restart)
        reward, ended, cut = np.zeros(count), np.zeros(count, np.bool_), np.zeros(count, np.bool_)
        if not restart.all():
            on = ~restart
            part = {name: value[on] for name, value in self._states[number].items()}
            stepped, seen_on, reward[on], _, ended[on], cut[on], info_on = self.domain.step(
                part, actions[on], streams=streams.take(on)
            )
            fresh, seen = _woven(fresh, stepped, on=on), _woven_seen(seen, seen_on, on=on)
            info = _woven({name: info[name] for name in self.domain.reported}, info_on, on=on)
        self._states[number] = fresh
        return seen, reward, ended, cut, info

    def _restart_now(self, seen: Seen, *, info: dict[str, Any]) -> Seen:
        assert self._streams is not None
        final = np.full(self.num_envs, None, dtype=object)
        for row in np.flatnonzero(self._ended):
            final[row] = _row(seen, int(row))
        info["final_obs"], info["_final_obs"] = final, self._ended.copy()
        self._next_episode(self._ended)
        for number, rows in enumerate(self._slices):
            over = self._ended[rows]
            if over.any():
                fresh, first, _ = self.domain.reset(self._streams.take(rows).take(over))
                self._states[number] = _merge(self._states[number], fresh, on=over)
                seen = _put_seen(seen, first, on=np.flatnonzero(over) + rows.start)
        return seen

    def _next_episode(self, rows: Bool) -> None:
        assert self._streams is not None
        episode = self._streams.episode + rows.astype(np.uint32)
        self._streams = philox.Streams(seed=self._streams.seed, index=self._streams.index, episode=episode)

    def _report(self, infos: list[dict[str, Any]]) -> dict[str, Any]:
        info: dict[str, Any] = {}
        for name in self.domain.reported:
            info[name] = np.concatenate([part[name] for part in infos])
            info[f"_{name}"] = np.ones(self.num_envs, dtype=np.bool_)
        return info


class DomainEnv(gymnasium.Env[Any, Any]):
    """One environment of a domain: the vector form with B=1, so both give the same bits. Seed s is the key (s, 0)."""

    def __init__(self, domain: Domain, *, render_mode: str | None = None) -> None:
        self.domain = domain
        self.metadata = {"render_modes": ["rgb_array"], "objectives": list(domain.objectives), **domain.metadata}
        self.render_mode = render_mode
        self.observation_space = domain.observation_space
        self.action_space = domain.action_space
        self._state: State | None = None
        self._streams: philox.Streams | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Seen, dict[str, Any]]:
        """A new episode: episode 0 of the seed, else the next of the present one."""
        super().reset(seed=seed)
        if seed is not None:
            self._streams = philox.streams(seed, num_envs=1)
        elif self._streams is None:
            self._streams = philox.streams(int(self.np_random.integers(2**32)), num_envs=1)
        else:
            self._streams = philox.Streams(
                seed=self._streams.seed, index=self._streams.index, episode=self._streams.episode + np.uint32(1)
            )
        self._state, seen, info = self.domain.reset(self._streams)
        return _row(seen, 0), {name: info[name][0] for name in self.domain.reported}

    def step(self, action: Any) -> tuple[Seen, float, bool, bool, dict[str, Any]]:
        """One step; info holds objectives, normalised and cost."""
        if self._state is None or self._streams is None:
            raise Conflict("the environment has not been reset", cure="Call reset() first.")
        batch = self.domain.check(np.asarray(action)[None])
        self._state, seen, reward, _, ended, cut, info = self.domain.step(self._state, batch, streams=self._streams)
        report = {name: info[name][0] for name in self.domain.reported}
        return _row(seen, 0), float(reward[0]), bool(ended[0]), bool(cut[0]), report

    def render(self) -> Array | None:  # type: ignore[override]  # Gymnasium's type names frames of any kind
        """The state as a picture, uint8 (height, width, 3), where `render_mode="rgb_array"` was asked for; else None."""
        if self.render_mode is None:
            return None
        if self._state is None:
            raise Conflict("the environment has not been reset", cure="Call reset() first.")
        return self.domain.draw(self._state)


class MaskedDomainEnv(DomainEnv):
    """One environment of a domain that reports `action_mask`, with the method that stable-baselines3-contrib asks for."""

    _mask: Bool | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Seen, dict[str, Any]]:
        """As DomainEnv."""
        seen, info = super().reset(seed=seed, options=options)
        self._mask = info["action_mask"] > 0
        return seen, info

    def step(self, action: Any) -> tuple[Seen, float, bool, bool, dict[str, Any]]:
        """As DomainEnv."""
        stepped = super().step(action)
        self._mask = stepped[-1]["action_mask"] > 0
        return stepped

    def action_masks(self) -> Bool:
        """(A,) true where an action may be taken now."""
        if self._mask is None:
            raise Conflict("the environment has not been reset", cure="Call reset() first.")
        return self._mask.copy()


def _merge(into: State, part: State, *, on: Bool | I64) -> State:
    return {name: _put_seen(value, part[name], on=on) for name, value in into.items()}


def _woven(off: State, part: State, *, on: Bool) -> State:
    """Both parts in their rows: `part` where `on`, `off` elsewhere."""
    return {name: _woven_seen(value, part[name], on=on) for name, value in off.items()}


def _woven_seen(off: Seen, part: Seen, *, on: Bool) -> Seen:
    return _woven(off, part, on=on) if isinstance(off, dict) else _weave(off, part, on=on)


def _weave(off: Array, part: Array, *, on: Bool) -> Array:
    made = np.empty((len(on), *off.shape[1:]), dtype=off.dtype)
    made[on], made[~on] = part, off
    return made


def _joined(parts: Sequence[Seen]) -> Seen:
    if isinstance(parts[0], dict):
        return {name: _joined([part[name] for part in parts]) for name in parts[0]}
    return np.concatenate(parts)


def _put_seen(into: Seen, part: Seen, *, on: Bool | I64) -> Seen:
    return _merge(into, part, on=on) if isinstance(into, dict) else _put(into, part, on=on)


def _row(seen: Seen, row: int) -> Seen:
    # An array even of one number: that is what a Box without axes holds.
    return {name: _row(part, row) for name, part in seen.items()} if isinstance(seen, dict) else np.array(seen[row])


def _put(into: Array, part: Array, *, on: Bool | I64) -> Array:
    made = into.copy()
    made[on] = part
    return made
