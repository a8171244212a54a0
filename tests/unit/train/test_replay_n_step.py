"""n-step transitions against a loop over single steps: ends, truncations, resets, masks and borders of fragments."""

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlaas_ray.train.replay import n_step, ring
from rlaas_ray.train.rollouts import Block, Final

GAMMA = 0.9
RECORD = ring.layout(observations=1, actions=1, discrete=True, masks=2)


@dataclass
class Stream:
    """What a vector env did over all its time, (L, B); observations are numbers, each another one."""

    observations: np.ndarray  # (L + 1, B)
    following: np.ndarray  # (L, B)
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    valid: np.ndarray

    def blocks(self, cuts: list[int]) -> list[Block]:
        edges = sorted({0, len(self.rewards), *(cut for cut in cuts if cut < len(self.rewards))})
        return [self._block(start, end) for start, end in itertools.pairwise(edges)]

    def _block(self, start: int, end: int) -> Block:
        observations = self.observations[start : end + 1].astype(np.float32)
        mine = slice(start, end)
        final = [
            Final(
                t=t, row=row, observation=self.following[start + t, row, None].astype(np.float32), mask=mask_of(value)
            )
            for t, row in np.argwhere(self.following[mine] != self.observations[start + 1 : end + 1]).tolist()
            for value in [self.following[start + t, row]]
        ]
        return Block(
            observations=observations[:, :, None],
            actions=observations[:-1, :, None].astype(np.int64),
            rewards=self.rewards[mine].astype(np.float32),
            terminated=self.terminated[mine],
            truncated=self.truncated[mine],
            valid=self.valid[mine],
            starts=np.zeros(observations.shape, dtype=np.bool_),
            masks=mask_of(observations),
            costs=np.zeros((*self.rewards[mine].shape, 0), dtype=np.float32),
            final=final,
        )


def mask_of(observation: np.ndarray) -> np.ndarray:
    return np.stack([observation % 2 == 0, observation % 3 == 0], axis=-1)


def stream(*, length: int, envs: int, same_step: bool, rng: np.random.Generator) -> Stream:
    observations = np.arange((length + 1) * envs, dtype=np.int64).reshape(length + 1, envs)
    found = Stream(
        observations=observations,
        following=observations[1:].copy(),
        rewards=rng.integers(-3, 4, (length, envs)).astype(np.float64),
        terminated=rng.random((length, envs)) < 0.15,
        truncated=rng.random((length, envs)) < 0.15,
        valid=np.ones((length, envs), dtype=np.bool_),
    )
    done = found.terminated | found.truncated
    if same_step:
        found.following[done] += 10_000  # the final observation is not the one that comes next
        return found
    for t in range(1, length):
        reset = found.valid[t - 1] & done[t - 1]
        found.valid[t] = ~reset
        found.rewards[t, reset] = 0.0
        found.terminated[t, reset] = found.truncated[t, reset] = done[t, reset] = False
    return found


def by_loop(given: Stream, *, n: int) -> list[tuple[float, float, float, float]]:
    """(observation, return, discount, next observation) of every start with n steps before the stream's end."""
    found = []
    length, envs = given.rewards.shape
    for t in range(length - n + 1):
        for env in range(envs):
            if not given.valid[t, env]:
                continue
            total, weight, at = 0.0, 1.0, t
            for at in range(t, t + n):
                total += weight * given.rewards[at, env]
                weight *= GAMMA
                if given.terminated[at, env]:
                    weight = 0.0
                if given.terminated[at, env] or given.truncated[at, env]:
                    break
            found.append((given.observations[t, env], total, weight, given.following[at, env]))
    return found


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    length=st.integers(1, 40),
    envs=st.integers(1, 3),
    n=st.integers(1, 6),
    same_step=st.booleans(),
    cuts=st.lists(st.integers(1, 40), max_size=12),
)
def test_transitions_are_those_of_a_loop_over_single_steps_wherever_fragments_end(
    seed: int, length: int, envs: int, n: int, same_step: bool, cuts: list[int]
) -> None:
    given = stream(length=length, envs=envs, same_step=same_step, rng=np.random.default_rng(seed))
    steps = n_step.NStep(RECORD, n=n, gamma=GAMMA)
    rows = np.concatenate([steps.rows(block) for block in given.blocks(cuts)])
    wanted = np.array(by_loop(given, n=n)).reshape(-1, 4)
    assert len(rows) == len(wanted)
    np.testing.assert_array_equal(rows["observations"][:, 0], wanted[:, 0])
    np.testing.assert_array_equal(rows["actions"][:, 0], wanted[:, 0])
    np.testing.assert_allclose(rows["rewards"], wanted[:, 1], atol=1e-5)
    np.testing.assert_allclose(rows["discounts"], wanted[:, 2], atol=1e-6)
    np.testing.assert_array_equal(rows["next_observations"][:, 0], wanted[:, 3])
    np.testing.assert_array_equal(rows["masks"], mask_of(wanted[:, 0]))
    np.testing.assert_array_equal(rows["next_masks"], mask_of(wanted[:, 3]))


@pytest.mark.parametrize("n", [1, 3])
def test_an_env_that_was_restarted_is_not_joined_to_the_one_before(n: int) -> None:
    rng = np.random.default_rng(0)
    first, second = (stream(length=10, envs=2, same_step=False, rng=rng) for _ in range(2))
    steps = n_step.NStep(RECORD, n=n, gamma=GAMMA)
    steps.rows(first.blocks([])[0])
    steps.forget()
    rows = steps.rows(second.blocks([])[0])
    wanted = np.array(by_loop(second, n=n))
    np.testing.assert_allclose(rows["rewards"], wanted[:, 1], atol=1e-5)
