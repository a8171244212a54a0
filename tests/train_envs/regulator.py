"""A linear-quadratic regulator whose optimum is known in closed form, importable as `regulator:Regulator`. Not a test."""

import gymnasium
import numpy as np

A, B, STATE_COST, ACTION_COST, STEPS = 1.0, 0.5, 1.0, 1.0, 8


class Regulator(gymnasium.Env):
    """s' = A s + B a, reward -(STATE_COST s^2 + ACTION_COST a^2); truncated, never terminated, after a few steps.

    Actions are given in [-2, 4]: 1 + 3 a, so that whoever forgets the scale learns something else.
    """

    observation_space = gymnasium.spaces.Box(-10, 10, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-2, 4, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._t = 0
        self._state = float(self.np_random.uniform(-1, 1))
        return np.array([self._state], dtype=np.float32), {}

    def step(self, action):
        a = (float(np.asarray(action)[0]) - 1.0) / 3.0
        reward = -(STATE_COST * self._state**2 + ACTION_COST * a * a)
        self._state = A * self._state + B * a
        self._t += 1
        return np.array([self._state], dtype=np.float32), reward, False, self._t == STEPS, {}


def riccati(gamma: float) -> tuple[float, float]:
    """(P, K): the optimal value is -P s^2, the optimal action -K s (Bertsekas 2012, discounted, one dimension)."""
    p = STATE_COST
    for _ in range(10_000):
        p = STATE_COST + gamma * A * A * p - (gamma * A * B * p) ** 2 / (ACTION_COST + gamma * B * B * p)
    return p, gamma * A * B * p / (ACTION_COST + gamma * B * B * p)


def q_values(states: np.ndarray, actions: np.ndarray, *, gamma: float) -> np.ndarray:
    """The optimal Q(s, a)."""
    p, _ = riccati(gamma)
    following = A * states + B * actions
    return -(STATE_COST * states**2 + ACTION_COST * actions**2) - gamma * p * following**2
