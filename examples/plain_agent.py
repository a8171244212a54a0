"""A plain agent class, as many are written: it takes an env, trains for some episodes, saves and loads its model.

    rlaas algorithms check examples.plain_agent:SarsaAgent
    rlaas train --env CliffWalking-v1 --set algorithm=examples.plain_agent:SarsaAgent --set total_episodes=500

Nothing here knows about this product. It runs as it is: counted, checkpointed, stopped and resumed between chunks of episodes.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np


class SarsaAgent:
    """Expected SARSA (van Seijen et al. 2009) on a table, epsilon-greedy."""

    def __init__(self, env, learning_rate=0.5, gamma=0.99, epsilon=0.1, seed=0):
        self.env = env
        self.learning_rate, self.gamma, self.epsilon = learning_rate, gamma, epsilon
        self.rng = np.random.default_rng(seed)
        self.q = np.zeros((env.observation_space.n, env.action_space.n))

    def train(self, episodes):
        returns = []
        for _ in range(episodes):
            state, _ = self.env.reset()
            total, done = 0.0, False
            while not done:
                action = self.choose_action(state)
                following, reward, terminated, truncated, _ = self.env.step(action)
                self.update_model(state, action, reward, following, terminated)
                state, total, done = following, total + reward, terminated or truncated
            returns.append(total)
        return {"return": returns}

    def choose_action(self, state, explore=True):
        if explore and self.rng.random() < self.epsilon:
            return int(self.rng.integers(len(self.q[state])))
        return int(self.q[state].argmax())

    def update_model(self, state, action, reward, following, terminated):
        q = self.q[following]
        expected = self.epsilon * q.mean() + (1 - self.epsilon) * q.max()
        target = reward + (0.0 if terminated else self.gamma * expected)
        self.q[state, action] += self.learning_rate * (target - self.q[state, action])

    def save_model(self, path):
        Path(f"{path}.json").write_text(json.dumps(self.q.tolist()))

    def load_model(self, path):
        self.q = np.array(json.loads(Path(f"{path}.json").read_text()))
