"""Multi-agent envs for tests, importable as `together:Class`. Not a test."""

import gymnasium
import numpy as np


class Meeting:
    """PettingZoo's parallel API. Two agents each see one half of a number (0-3) and must both name the other's half, 8 times."""

    def __init__(self) -> None:
        self.possible_agents = ["left", "right"]
        self.agents: list[str] = []

    def observation_space(self, agent):
        return gymnasium.spaces.Box(0, 1, (3,), np.float32)

    def action_space(self, agent):
        return gymnasium.spaces.Discrete(2)

    def reset(self, seed=None, options=None):
        if seed is not None or not hasattr(self, "_rng"):
            self._rng = np.random.default_rng(seed)
        self.agents = list(self.possible_agents)
        self._left = 8
        return self._look(), {agent: {} for agent in self.agents}

    def step(self, actions):
        # both see who is asked; only what both do right counts, so neither can do it alone
        right = all(actions[agent] == self._secret for agent in self.agents)
        self._left -= 1
        over = self._left == 0
        told = self._look()
        names = self.agents
        if over:
            self.agents = []
        return (
            told,
            dict.fromkeys(names, 1.0 if right else 0.0),
            dict.fromkeys(names, over),
            dict.fromkeys(names, False),
            {agent: {} for agent in names},
        )

    def _look(self):
        self._secret = int(self._rng.integers(2))
        noise = self._rng.random(2)
        return {agent: np.array([self._secret, *noise], dtype=np.float32) for agent in self.possible_agents}


class Turns:
    """RLlib's dict API, in turns, spaces of each agent its own: `asker` sees a key and must say it; `answerer` must repeat it.

    What the asker earns is told on the answerer's turn: rewards between own turns must count.
    """

    def __init__(self, keys: int = 3) -> None:
        self._keys = keys
        self.possible_agents = self.agents = ["asker", "answerer"]
        self.observation_spaces = {
            "asker": gymnasium.spaces.Discrete(keys),
            "answerer": gymnasium.spaces.Box(0, 1, (keys,), np.float32),
        }
        self.action_spaces = {"asker": gymnasium.spaces.Discrete(keys), "answerer": gymnasium.spaces.Discrete(keys + 1)}

    def reset(self, *, seed=None, options=None):
        if seed is not None or not hasattr(self, "_rng"):
            self._rng = np.random.default_rng(seed)
        self._rounds = 6
        return self._ask(), {}

    def step(self, actions):
        ended, cut = {"__all__": False}, {"__all__": False}
        if "asker" in actions:
            assert set(actions) == {"asker"}
            said = np.zeros(self._keys, dtype=np.float32)
            self._said = int(actions["asker"])
            said[self._said] = 1.0
            return {"answerer": said}, {}, ended, cut, {}
        right = float(int(actions["answerer"]) == self._said == self._key)
        self._rounds -= 1
        if self._rounds == 0:
            return {}, {"asker": right, "answerer": right}, {"__all__": True}, cut, {}
        return self._ask(), {"asker": right, "answerer": right}, ended, cut, {}

    def _ask(self):
        self._key = int(self._rng.integers(self._keys))
        return {"asker": self._key}
