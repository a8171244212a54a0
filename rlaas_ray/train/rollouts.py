"""Rollouts: one vector env stepped T times into a block of columns [T, B]; who acts is handed in.

Held by collectors (seam.Collector). Knows both autoreset modes, true returns of whole envs, masks and costs; never a policy, an
advantage or a statistic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np

from rlaas_ray.errors import NotBuilt, WorkFailed
from rlaas_ray.specs.arrays import F32, F64, I64, Array, Bool
from rlaas_ray.train import columns
from rlaas_ray.train.worlds import Worlds


@dataclass(slots=True, kw_only=True, eq=False)
class Seen:
    """What whoever acts sees of step t."""

    t: int
    observations: F32  # (B, d), encoded; a view: copy what is to be kept
    mask: Bool | None  # (B, m), true where an action is allowed
    starts: Bool  # (B,), an episode starts here: memory of the last one must go


Act = Callable[[Seen], Array]  # -> proposed actions (B, a)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Final:
    """The last observation of an episode, which SAME_STEP autoreset gives apart."""

    t: int
    row: int
    observation: F32  # (d,), encoded
    mask: Bool | None


@dataclass(slots=True, kw_only=True, eq=False)
class Block:
    """T steps of B rows (envs, or units of envs). Rows that are not `valid` are NEXT_STEP's resets: their action was ignored."""

    observations: (
        F32  # (T + 1, B, d), encoded; [t + 1] at a done step is the final one under NEXT_STEP, the next episode's else
    )
    actions: Array  # (T, B, a), proposed
    rewards: F32  # (T, B)
    terminated: Bool
    truncated: Bool
    valid: Bool  # (T, B)
    starts: Bool  # (T + 1, B): an episode starts at this observation
    masks: Bool | None  # (T + 1, B, m)
    costs: F32  # (T, B, K)
    final: list[Final] = field(default_factory=list)
    returns: list[float] = field(default_factory=list)  # true ones, of whole envs that ended
    lengths: list[int] = field(default_factory=list)
    ends: list[tuple[int, I64]] = field(default_factory=list)  # step, and which whole envs' true episodes ended there
    steps: int = 0  # valid ones, of whole envs

    @property
    def done(self) -> Bool:
        """(T, B)."""
        return self.terminated | self.truncated

    def following(self) -> F32:
        """(T, B, d): what each step led to, the final observation where an episode ended. A view unless SAME_STEP gave finals."""
        if not self.final:
            return self.observations[1:]
        found = self.observations[1:].copy()
        for last in self.final:
            found[last.t, last.row] = last.observation
        return found

    def following_masks(self) -> Bool | None:
        """(T, B, m), the masks of `following`."""
        if self.masks is None:
            return None
        found = self.masks[1:].copy()
        for last in self.final:
            assert last.mask is not None
            found[last.t, last.row] = last.mask
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Which keys of `info` are costs: (B,) or (B, K) each, `count` columns in all."""

    keys: tuple[str, ...]
    count: int

    def of(self, info: Mapping[str, Any], *, rows: int) -> F32:
        """This step's costs (B, count). Under SAME_STEP the last step of an episode tells them in `final_info`."""
        final = info.get("final_info")
        parts = []
        for key in self.keys:
            told = np.zeros((rows, 1)) if key not in info else np.asarray(info[key], dtype=np.float64).reshape(rows, -1)
            if isinstance(final, Mapping) and key in final:
                last = np.asarray(final[key], dtype=np.float64).reshape(rows, -1)
                told = np.where(np.asarray(info["_final_info"], dtype=np.bool_)[:, None], last, told)
            parts.append(told)
        found = np.concatenate(parts, axis=1)
        if found.shape[1] != self.count:
            raise WorkFailed(
                f"costs in info[{', '.join(map(repr, self.keys))}]",
                given=f"{found.shape[1]} columns",
                expected=f"{self.count}, one for each of cost_limits",
                cure="Give a limit for each cost, in the order of cost_keys.",
            )
        return found.astype(np.float32)


class Rollouts:
    """One vector env and its running state. The env is made at the first block: its seed depends on the iteration."""

    def __init__(
        self, worlds: Worlds, *, envs: int, steps: int, seed: int, index: int, costs: Costs | None = None
    ) -> None:
        self._worlds = worlds
        self._envs = envs
        self._steps = steps
        self._seed = seed
        self._index = index
        self._costs = costs or Costs(keys=(), count=0)
        self._env: gymnasium.vector.VectorEnv[Any, Any, Any] | None = None
        self._rng = np.random.default_rng(seed)

    def open(self, iteration: int) -> np.random.Generator:
        """Make the env unless there is one; gives the collector's generator, new with each env."""
        if self._env is not None:
            return self._rng
        # A resumed or restarted collector must not live the same episodes again, so the iteration is part of the seed;
        # iteration 0 keeps the spec's own seed, which the contract of our envs names.
        seed = self._seed
        if iteration:
            seed = int(np.random.SeedSequence([self._seed, iteration]).generate_state(1)[0] >> 1)
        self._rng = np.random.default_rng(np.random.SeedSequence([self._seed, iteration, self._index]))
        env = self._worlds.make(envs=self._envs, seed=seed, first_index=self._index * self._envs)
        mode = env.metadata.get("autoreset_mode", gymnasium.vector.AutoresetMode.NEXT_STEP)
        if mode == gymnasium.vector.AutoresetMode.DISABLED:
            raise NotBuilt(
                f"training on {self._worlds.env} with autoreset disabled",
                cure="Set the vector env's metadata['autoreset_mode'] to NEXT_STEP or SAME_STEP.",
            )
        self._same_step = mode == gymnasium.vector.AutoresetMode.SAME_STEP
        observations, _ = env.reset()
        self._env = env
        self._masked = self._worlds.masks(observations) is not None
        self._take(observations, ended=np.zeros(1, dtype=np.bool_))
        rows = self._current.shape[0]
        self._done: Bool = np.zeros(rows, dtype=np.bool_)
        self._starts: Bool = np.ones(rows, dtype=np.bool_)
        groups = rows // self._worlds.units
        self._episode_return = np.zeros(groups)
        self._clock = 0
        self._born = np.zeros(groups, dtype=np.int64)  # the clock when the running episode began
        self._decode = self._worlds.decoding()
        return self._rng

    @property
    def rows(self) -> int:
        """B, once the env is open."""
        return int(self._current.shape[0])

    def collect(self, act: Act, *, entries: int, discrete: bool) -> Block:
        """T steps. `act` gives `entries` numbers for each row, integers when `discrete`. Raises WorkFailed on NaN."""
        block = self._empty(entries=entries, discrete=discrete)
        done_before, starts = self._done, self._starts
        for t in range(self._steps):
            self._observe(block, t)
            block.actions[t] = act(Seen(t=t, observations=self._current, mask=self._mask, starts=self._starts))
            self._step(block, t)
        self._observe(block, self._steps)
        self._mark(block, done_before=done_before, starts=starts)
        if not (np.isfinite(block.observations).all() and np.isfinite(block.rewards).all()):
            raise WorkFailed(
                f"{self._worlds.env} gave NaN or infinity",
                expected="finite observations and rewards",
                cure=f"`rlaas env check {self._worlds.env}` finds the step.",
            )
        return block

    def close(self) -> None:
        """Release the env; the next block makes a new one."""
        if self._env is not None:
            self._env.close()
            self._env = None

    def _take(self, observations: Any, *, ended: Bool) -> None:
        """`ended` (B,): the observation is an episode's last, on which nobody acts: it may forbid everything."""
        self._current = self._worlds.encode(observations)
        mask = self._worlds.masks(observations) if self._masked else None
        self._mask = None if mask is None else mask | (ended[:, None] & ~mask.any(axis=1, keepdims=True))
        if self._mask is not None and not self._mask.any(axis=1).all():
            row = int(np.flatnonzero(~self._mask.any(axis=1))[0])
            raise WorkFailed(
                f"{self._worlds.env} forbids every action",
                given=f"an action_mask without a single 1 in env {row}",
                expected="at least one allowed action",
                cure="Mend the env; an episode without a way on should end.",
            )

    def _observe(self, block: Block, t: int) -> None:
        block.observations[t] = self._current
        if block.masks is not None:
            block.masks[t] = self._mask

    def _step(self, block: Block, t: int) -> None:
        assert self._env is not None
        actions = self._decode(block.actions[t], block.observations[t])
        observations, rewards, terminated, truncated, info = self._env.step(actions)
        done = np.logical_or(terminated, truncated)
        self._take(observations, ended=np.zeros_like(done) if self._same_step else done)
        block.rewards[t] = rewards
        block.terminated[t] = terminated
        block.truncated[t] = truncated
        if self._costs.keys:
            block.costs[t] = self._costs.of(info, rows=len(block.rewards[t]))
        if self._same_step and done.any():
            block.final.extend(self._finals(t, done=done, info=info))
        if self._worlds.shared:
            # Behind a view whole envs start anew in the same step (envs/view.py): each reward belongs to an episode.
            self._count(info["env_reward"], t=t, done=info["env_done"], ignored=None, block=block)
        else:
            self._count(rewards, t=t, done=done, ignored=None if self._same_step else self._done, block=block)
        # Under NEXT_STEP the observation after the ignored step opens the next episode.
        self._starts = done if self._same_step else self._done
        self._done = np.zeros_like(done) if self._same_step else done

    def _mark(self, block: Block, *, done_before: Bool, starts: Bool) -> None:
        """Which rows are real and which open an episode, for all steps at once."""
        block.starts[0] = starts
        if self._same_step:
            block.valid[:] = True
            block.starts[1:] = block.done
        else:
            block.valid[:] = columns.valid_next_step(done_before, block.done)
            block.starts[1:] = ~block.valid
        shared = self._worlds.shared
        block.steps = self._steps * len(self._born) if shared else int(np.count_nonzero(block.valid))

    def _finals(self, t: int, *, done: Bool, info: dict[str, Any]) -> list[Final]:
        given = info["final_obs"]
        return [
            Final(
                t=t,
                row=int(row),
                observation=self._worlds.encode_one(given[row]),
                mask=None if self._mask is None else self._worlds.mask_one(given[row]),
            )
            for row in np.flatnonzero(done)
        ]

    def _count(self, rewards: F64, *, t: int, done: Bool, ignored: Bool | None, block: Block) -> None:
        """True returns of whole envs: of each row, or of what the view says about its group; `ignored` rows were reset."""
        self._clock += 1
        self._episode_return += rewards
        if ignored is not None and np.count_nonzero(ignored):
            self._episode_return[ignored] = 0.0
            self._born[ignored] = self._clock
            done = done & ~ignored
        if np.count_nonzero(done):
            block.returns.extend(self._episode_return[done].tolist())
            block.lengths.extend((self._clock - self._born[done]).tolist())
            block.ends.append((t, np.flatnonzero(done)))
            self._episode_return[done] = 0.0
            self._born[done] = self._clock

    def _empty(self, *, entries: int, discrete: bool) -> Block:
        steps, (rows, width) = self._steps, self._current.shape
        return Block(
            observations=np.empty((steps + 1, rows, width), dtype=np.float32),
            actions=np.empty((steps, rows, entries), dtype=np.int64 if discrete else np.float32),
            rewards=np.empty((steps, rows), dtype=np.float32),
            terminated=np.empty((steps, rows), dtype=np.bool_),
            truncated=np.empty((steps, rows), dtype=np.bool_),
            valid=np.empty((steps, rows), dtype=np.bool_),
            starts=np.empty((steps + 1, rows), dtype=np.bool_),
            masks=None if self._mask is None else np.empty((steps + 1, rows, self._mask.shape[1]), dtype=np.bool_),
            costs=np.zeros((steps, rows, self._costs.count), dtype=np.float32),
        )


def discounted(block: Block, *, before: F64, gamma: float) -> tuple[F64, F64]:
    """Discounted returns so far at each step (T, B), and what is carried over the border (B,): for reward scaling."""
    seen = np.empty(block.rewards.shape)
    running, done = before, block.done
    for t in range(block.rewards.shape[0]):
        running = running * gamma + block.rewards[t]
        seen[t] = running
        running = np.where(done[t], 0.0, running)
    return seen, running


def scale(rewards: F32, *, returns: columns.Moments) -> F32:
    """Rewards over the standard deviation of discounted returns."""
    return rewards / np.float32(np.sqrt(returns.variance[0] + columns.NORMALISED_EPSILON))
