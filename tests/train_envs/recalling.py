"""Envs that only a memory solves, importable by actors as `recalling:Class` when this folder is on the path. Not a test."""

import gymnasium
import numpy as np


class Recall(gymnasium.Env):
    """[cue, now, noise]: the cue (-1 or 1) shows at the first step only, and is to be named `wait` steps later: 1 or -1.

    Whoever does not remember earns 0 on average, whatever it does.
    """

    observation_space = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, wait: int = 8) -> None:
        self._wait = wait

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._cue, self._t = int(self.np_random.integers(2)), 0
        return self._look(), {}

    def step(self, action):
        last = self._t == self._wait
        reward = (1.0 if int(action) == self._cue else -1.0) if last else 0.0
        self._t += 1
        return self._look(), reward, last, False, {}

    def _look(self):
        cue = 2.0 * self._cue - 1.0 if self._t == 0 else 0.0
        return np.array([cue, float(self._t == self._wait), self.np_random.uniform(-1, 1)], dtype=np.float32)


class Masked(Recall):
    """The same with an action mask: of three actions the last is never allowed."""

    observation_space = gymnasium.spaces.Dict(
        {"seen": Recall.observation_space, "action_mask": gymnasium.spaces.MultiBinary(3)}
    )
    action_space = gymnasium.spaces.Discrete(3)

    def _look(self):
        return {"seen": super()._look(), "action_mask": np.array([1, 1, 0], dtype=np.int8)}


class Follow(gymnasium.Env):
    """Box: give back the number that was shown two steps before; ends after 12 steps by truncation."""

    observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._shown = [0.0, 0.0]
        return self._look(), {}

    def step(self, action):
        reward = -float(abs(float(np.asarray(action).ravel()[0]) - self._shown[-3]))
        return self._look(), reward, False, len(self._shown) >= 15, {}

    def _look(self):
        self._shown.append(float(self.np_random.uniform(-1, 1)))
        return np.array([self._shown[-1]], dtype=np.float32)


class BlindCartPole(gymnasium.Wrapper):
    """CartPole without its velocities: where cart and pole are says nothing of where they go."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)

    def __init__(self) -> None:
        super().__init__(gymnasium.make("CartPole-v1"))

    def reset(self, **more):
        observation, info = self.env.reset(**more)
        return observation[[0, 2]], info

    def step(self, action):
        observation, *rest = self.env.step(action)
        return (observation[[0, 2]], *rest)
