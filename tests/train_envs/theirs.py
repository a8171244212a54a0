"""Users' algorithms for tests, importable as `theirs:Class` when this folder is on the path. Not a test."""

import numpy as np

from rlaas_ray.train.user.protocol import ActionOut, Exported


class Linear:
    """Scores of actions by one matrix; learns by moving it a little towards rewarded actions. Keeps what it was given."""

    def __init__(self, *, observation_space, action_space, config, seed):
        self.given = (observation_space, action_space, dict(config), seed)
        self.rng = np.random.default_rng(seed)
        self.discrete = hasattr(action_space, "n")
        outputs = int(action_space.n) if self.discrete else action_space.shape[0]
        self.weight = self.rng.normal(size=(outputs, observation_space.shape[0])).astype(np.float32)
        self.updates = 0
        self.seen = []

    def choose_action(self, obs, *, explore, mask=None):
        scores = obs @ self.weight.T
        if not self.discrete:
            noise = 0.1 * self.rng.normal(size=scores.shape) if explore else 0.0
            return ActionOut(action=np.clip(scores + noise, -1, 1), dist=scores)
        if mask is not None:
            scores = np.where(mask, scores, -1e30)
        noise = self.rng.gumbel(size=scores.shape) if explore else 0.0
        return ActionOut(action=(scores + noise).argmax(axis=1), logp=np.zeros(len(obs), np.float32), dist=scores)

    def update(self, columns):
        self.seen.append(columns)
        self.updates += 1
        used = columns.valid
        gain = 0.01 * (columns.rewards[used] - columns.rewards[used].mean())
        if self.discrete:
            np.add.at(self.weight, columns.actions[used][:, 0], gain[:, None] * columns.observations[used])
        return {"updates": self.updates, "text": "left out", "nothing": float("nan")}

    def policy(self):
        bias = np.zeros(len(self.weight), np.float32)
        head = "categorical" if self.discrete else "point"
        return Exported(layers=[(self.weight, bias, "linear")], head=head, serving="greedy")

    def state(self):
        return {"weight": self.weight, "updates": np.array([self.updates])}

    def load_state(self, state):
        self.weight = np.array(state["weight"], dtype=np.float32)
        self.updates = int(state["updates"][0])


class Hidden(Linear):
    """Trains, but offers no policy."""

    policy = None


class Climber(Linear):
    """A loop of its own: random search over whole episodes."""

    def train(self, env, budget):
        obs, info = env.reset()
        while budget.used() < 1.0:
            for _ in range(10):
                out = self.choose_action(obs, explore=True, mask=info.get("mask"))
                obs, reward, _, _, info = env.step(out.action)
            self.updates += 1
            yield {"used": budget.used(), "reward": float(reward.mean())}


class Idle(Linear):
    """A loop of its own that never steps."""

    def train(self, env, budget):
        yield from ()


class Raising(Linear):
    """Fails in its third update."""

    def update(self, columns):
        if self.updates == 2:
            raise KeyError("forgotten")
        return super().update(columns)


class Wide(Linear):
    """Gives one action for the whole batch."""

    def choose_action(self, obs, *, explore, mask=None):
        return ActionOut(action=np.array(0))


class Texts(Linear):
    """Its state holds text."""

    def state(self):
        return {"name": np.array("text")}


class Careless(Linear):
    """Draws from NumPy's global generator, and forgets half of its state."""

    def choose_action(self, obs, *, explore, mask=None):
        self.weight = self.weight + 0.1 * np.random.randn(*self.weight.shape).astype(np.float32)  # noqa: NPY002
        return super().choose_action(obs, explore=explore, mask=mask)

    def load_state(self, state):
        self.updates = int(state["updates"][0])


class Unlike(Linear):
    """Offers another policy than it acts by."""

    def policy(self):
        return Exported(layers=[(-self.weight, np.zeros(len(self.weight), np.float32), "linear")], head="categorical")


class Half:
    """Neither of the two kinds."""

    def choose_action(self, obs, *, explore, mask=None):
        return ActionOut(action=np.zeros(len(obs)))


class Agent:
    """A plain agent with a budget of luck; its model is two files, one in a folder."""

    def __init__(self, env, luck=1):
        self.env, self.luck, self.calls = env, luck, []

    def train(self, episodes):
        self.calls.append(episodes)
        lengths = []
        for _ in range(episodes):
            state, _ = self.env.reset()
            done, length = False, 0
            while not done:
                state, reward, terminated, truncated, _ = self.env.step(self.choose_action(state))
                self.update_model(reward)
                done, length = terminated or truncated, length + 1
            lengths.append(length)
        return lengths

    def choose_action(self, state, training=True):
        return self.env.action_space.sample() if training else 1

    def update_model(self, reward):
        self.luck += reward

    def save_model(self, path):
        import json
        from pathlib import Path

        Path(f"{path}.d").mkdir()
        Path(f"{path}.d", "luck.json").write_text(json.dumps(self.luck))
        Path(path).write_bytes(b"\x00\xff")

    def load_model(self, path):
        import json
        from pathlib import Path

        assert Path(path).read_bytes() == b"\x00\xff"
        self.luck = json.loads(Path(f"{path}.d", "luck.json").read_text())


class Silent(Agent):
    """Writes no file."""

    def save_model(self, path):
        pass


def sequential(inputs, outputs):
    """A network that a bundle can hold."""
    import torch

    return torch.nn.Sequential(torch.nn.Linear(inputs, 32), torch.nn.Tanh(), torch.nn.Linear(32, outputs))


def residual(inputs, outputs):
    """A network that no bundle can hold."""
    import torch

    class Residual(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = torch.nn.Linear(inputs, 32), torch.nn.Linear(32 + inputs, outputs)

        def forward(self, x):
            return self.last(torch.cat([torch.tanh(self.first(x)), x], dim=1))

    return Residual()


def narrow(inputs, outputs):
    """A network with one output too few."""
    import torch

    return torch.nn.Linear(inputs, max(1, outputs - 1))


value = 3
