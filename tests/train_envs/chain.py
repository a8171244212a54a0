"""A chain of states whose action values are known: for tests of value learners. Not a test."""

import gymnasium
import numpy as np

STATES, LENGTH, LEFT_REWARD, RIGHT_REWARD = 5, 6, 0.3, 1.0
NO_RIGHT_AT = 2  # of Masked


class Chain(gymnasium.Env):
    """One-hot state; 0 goes left, 1 right; each end is a reward and the end. Cut off after LENGTH steps."""

    observation_space = gymnasium.spaces.Box(0, 1, (STATES,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._at, self._left = int(self.np_random.integers(STATES)), LENGTH
        return self._look(), {}

    def step(self, action):
        self._at += 1 if int(action) == 1 else -1
        self._left -= 1
        reward = LEFT_REWARD if self._at < 0 else RIGHT_REWARD if self._at >= STATES else 0.0
        ended = not 0 <= self._at < STATES
        return self._look(), reward, ended, not ended and self._left == 0, {}

    def _look(self):
        return np.eye(STATES, dtype=np.float32)[min(max(self._at, 0), STATES - 1)]


class Masked(Chain):
    """The same, but from the middle nobody may go right."""

    observation_space = gymnasium.spaces.Dict(
        {
            "action_mask": gymnasium.spaces.MultiBinary(2),
            "state": gymnasium.spaces.Box(0, 1, (STATES,), np.float32),
        }
    )

    def step(self, action):
        if self._at == NO_RIGHT_AT and int(action) == 1:
            msg = "a forbidden action"
            raise ValueError(msg)
        return super().step(action)

    def _look(self):
        mask = np.array([1, 0 if self._at == NO_RIGHT_AT else 1], dtype=np.int8)
        return {"action_mask": mask, "state": super()._look()}


def values(*, gamma: float, n: int = 1, masked: bool = False) -> np.ndarray:
    """The fixed point (STATES, 2) of n-step Q-learning that acts uniformly at random; for n = 1 the optimal values.

    With n > 1 it depends on how often a state is met so shortly before the cut that fewer than n steps are left.
    """
    allowed = np.ones((STATES, 2), dtype=bool)
    if masked:
        allowed[NO_RIGHT_AT, 1] = False
    acting = allowed / allowed.sum(axis=1, keepdims=True)
    met = _met(acting)
    q = np.zeros((STATES, 2))
    for _ in range(500):
        ahead, backed = np.where(allowed, q, -np.inf).max(axis=1), []
        for _ in range(n):
            backed.append(_backed_up(ahead, gamma=gamma))
            ahead = (acting * backed[-1]).sum(axis=1)
        q = sum(met[t][:, None] * backed[min(n, LENGTH - t) - 1] for t in range(LENGTH))
    return q


def _met(acting: np.ndarray) -> list[np.ndarray]:
    """The share (STATES,) of visits to each state that are at step t of their episode, for each t."""
    at, found = np.full(STATES, 1 / STATES), []
    for _ in range(LENGTH):
        found.append(at)
        left, right = at * acting[:, 0], at * acting[:, 1]
        at = np.concatenate([left[1:], [0.0]]) + np.concatenate([[0.0], right[:-1]])
    total = sum(found)
    return [one / total for one in found]


def _backed_up(ahead: np.ndarray, *, gamma: float) -> np.ndarray:
    left = np.concatenate([[LEFT_REWARD], gamma * ahead[:-1]])
    right = np.concatenate([gamma * ahead[1:], [RIGHT_REWARD]])
    return np.stack([left, right], axis=1)
