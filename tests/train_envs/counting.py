"""Env classes for training tests, importable by actors as `counting:Class` when this folder is on the path. Not a test."""

import gymnasium
import numpy as np


class Counting(gymnasium.Env):
    """Observation [t]; reward t + action; ends after 3 steps (terminated) or, with `length`, is truncated then."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, length: int = 3, truncate: bool = False) -> None:
        self._length, self._truncate, self._t = length, truncate, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._t = 0
        return np.array([0.0], dtype=np.float32), {}

    def step(self, action):
        self._t += 1
        done = self._t >= self._length
        observation = np.array([self._t], dtype=np.float32)
        return observation, float(self._t), done and not self._truncate, done and self._truncate, {}


class Remember(gymnasium.Env):
    """Dict observation with a discrete part; the right answer is the colour, five times."""

    observation_space = gymnasium.spaces.Dict(
        {"colour": gymnasium.spaces.Discrete(3), "noise": gymnasium.spaces.Box(-5, 5, (2,), np.float32)}
    )
    action_space = gymnasium.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._left = 5
        return self._look(), {}

    def step(self, action):
        reward = 1.0 if int(action) == self._colour else 0.0
        self._left -= 1
        return self._look(), reward, self._left == 0, False, {}

    def _look(self):
        self._colour = int(self.np_random.integers(3))
        return {"colour": self._colour, "noise": self.np_random.normal(size=2).clip(-5, 5).astype(np.float32)}


class Locks(gymnasium.Env):
    """MultiDiscrete: each wheel has its own right number, shown scaled."""

    observation_space = gymnasium.spaces.Box(0, 1, (2,), np.float32)
    action_space = gymnasium.spaces.MultiDiscrete([2, 3])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._left = 4
        return self._look(), {}

    def step(self, action):
        reward = float(np.mean(np.asarray(action) == self._right))
        self._left -= 1
        return self._look(), reward, self._left == 0, False, {}

    def _look(self):
        self._right = np.array([self.np_random.integers(2), self.np_random.integers(3)])
        return (self._right / np.array([1, 2])).astype(np.float32)


class Reach(gymnasium.Env):
    """Box: go to the target shown; bounded actions in odd units."""

    observation_space = gymnasium.spaces.Box(-100, 100, (2,), np.float32)
    action_space = gymnasium.spaces.Box(np.float32(2.0), np.float32(6.0), (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._left = 8
        return self._look(), {}

    def step(self, action):
        assert self.action_space.contains(np.asarray(action)), action
        reward = -abs(float(np.asarray(action)[0]) - self._target)
        self._left -= 1
        return self._look(), reward, False, self._left == 0, {}

    def _look(self):
        self._target = float(self.np_random.uniform(3, 5))
        return np.array([self._target * 10, 50.0], dtype=np.float32)


class Breaks(Counting):
    """Raises at the given step of its life; `often`: at every such step, else once in a process."""

    broken = False

    def __init__(self, at: int = 1, often: bool = True) -> None:
        super().__init__(length=4)
        self._at, self._often, self._steps = at, often, 0

    def step(self, action):
        self._steps += 1
        if self._steps == self._at and (self._often or not Breaks.broken) and self._armed():
            Breaks.broken = True
            msg = "the env's own words"
            raise RuntimeError(msg)
        return super().step(action)

    def _armed(self) -> bool:
        return True


class Poison(Counting):
    """An observation that is not a number."""

    def step(self, action):
        _, *rest = super().step(action)
        return np.array([np.nan], dtype=np.float32), *rest


class Spend(gymnasium.Env):
    """10 steps; the action x in [0, 1] earns x and costs x squared. Under a limit c of an episode the best x is sqrt(c / 10)."""

    observation_space = gymnasium.spaces.Box(0, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Box(0, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._t = 0
        return np.zeros(1, dtype=np.float32), {}

    def step(self, action):
        self._t += 1
        spent = float(np.clip(action[0], 0, 1))
        return np.full(1, self._t / 10, dtype=np.float32), spent, self._t == 10, False, {"cost": spent**2}


class Guarded(gymnasium.Env):
    """Six actions worth what they are worth today; three are allowed, the best of those is right. A forbidden one is a fault."""

    observation_space = gymnasium.spaces.Dict(
        {"action_mask": gymnasium.spaces.MultiBinary(6), "observations": gymnasium.spaces.Box(0, 1, (6,), np.float32)}
    )
    action_space = gymnasium.spaces.Discrete(6)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._left = 10
        return self._look(), {}

    def step(self, action):
        if not self._mask[int(action)]:
            msg = f"action {action} is forbidden"
            raise RuntimeError(msg)
        best = np.flatnonzero(self._mask)[np.argmax(self._worth[self._mask])]
        reward = 1.0 if int(action) == best else 0.0
        self._left -= 1
        told = self._look()
        if self._left == 0:
            told["action_mask"] = np.zeros(6, dtype=np.int8)  # an episode's last observation may forbid everything
        return told, reward, self._left == 0, False, {}

    def _look(self):
        self._worth = self.np_random.permutation(np.linspace(0, 1, 6)).astype(np.float32)
        self._mask = np.zeros(6, dtype=np.bool_)
        self._mask[self.np_random.permutation(6)[:3]] = True
        return {"action_mask": self._mask.astype(np.int8), "observations": self._worth}


class Shop(gymnasium.Env):
    """A contextual bandit: the right one of four actions is the context."""

    observation_space = gymnasium.spaces.Box(0, 1, (4,), np.float32)
    action_space = gymnasium.spaces.Discrete(4)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._right = int(self.np_random.integers(4))
        return np.eye(4, dtype=np.float32)[self._right], {}

    def step(self, action):
        return np.zeros(4, dtype=np.float32), float(action == self._right), True, False, {}
