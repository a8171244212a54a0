"""Deep Sea Treasure, its two fronts known: for tests of many objectives. Not a test.

A submarine on an 11 x 10 grid; deeper treasure is worth more and farther away (Vamplew et al. 2011). A domain of the vector
layer, so that training on it is as batched as on our own.
"""

import gymnasium
import numpy as np

from rlaas_ray.envs import vector

ORIGINAL, CONVEX = "DeepSeaOriginal-v0", "DeepSeaConvex-v0"
STEPS = (1, 3, 5, 7, 8, 9, 13, 14, 17, 19)
TREASURE = {
    ORIGINAL: (1.0, 2.0, 3.0, 5.0, 8.0, 16.0, 24.0, 50.0, 74.0, 124.0),
    CONVEX: (0.7, 8.2, 11.5, 14.0, 15.1, 16.1, 19.6, 20.3, 22.4, 23.7),
}
DEPTH = (1, 2, 3, 4, 4, 4, 7, 7, 9, 10)  # of the sea floor in each column; the treasure lies on it
ROWS, COLUMNS, LONGEST = 11, 10, 50
MOVES = np.array([(-1, 0), (1, 0), (0, -1), (0, 1)])


def front(env: str) -> np.ndarray:
    """(10, 2): treasure, time; both larger is better."""
    return np.column_stack((TREASURE[env], -np.asarray(STEPS, dtype=np.float64)))


class DeepSea:
    """The domain. The objectives are rewards already, so `normalised` is they themselves."""

    observation_space = gymnasium.spaces.MultiDiscrete([ROWS, COLUMNS])
    action_space = gymnasium.spaces.Discrete(4)
    objectives = [("treasure", "1", "max"), ("time", "steps", "max")]  # noqa: RUF012 - a domain's field
    reported = ("objectives", "normalised")
    metadata = {"modes": {}, "costs": (), "cost_limits": ()}  # noqa: RUF012

    def __init__(self, env: str) -> None:
        self._treasure, self._depth = np.asarray(TREASURE[env]), np.asarray(DEPTH)

    def check(self, action):
        return np.asarray(action, dtype=np.int64)

    def reset(self, streams):
        state = {name: np.zeros(len(streams.seed), np.int64) for name in ("row", "column", "t")}
        return state, self._seen(state), self._info(np.zeros(len(streams.seed)), moved=0.0)

    def step(self, state, action, *, streams):
        row, column = state["row"] + MOVES[action, 0], state["column"] + MOVES[action, 1]
        inside = (row >= 0) & (column >= 0) & (column < COLUMNS)
        inside &= row <= self._depth[np.clip(column, 0, COLUMNS - 1)]  # the rest is rock
        row, column = np.where(inside, row, state["row"]), np.where(inside, column, state["column"])
        after = {"row": row, "column": column, "t": state["t"] + 1}
        found = row == self._depth[column]
        info = self._info(np.where(found, self._treasure[column], 0.0), moved=-1.0)
        reward = info["objectives"][:, 0] + info["objectives"][:, 1]
        cut = ~found & (after["t"] >= LONGEST)
        return after, self._seen(after), reward, np.zeros((len(row), 0)), found, cut, info

    def draw(self, state):
        raise NotImplementedError

    @staticmethod
    def _seen(state):
        return np.column_stack((state["row"], state["column"]))

    @staticmethod
    def _info(treasure, *, moved):
        told = np.column_stack((treasure, np.full(len(treasure), moved)))
        return {"objectives": told, "normalised": told}


def register() -> None:
    """Make both known to Gymnasium, once."""
    for env in (ORIGINAL, CONVEX):
        if env not in gymnasium.registry:
            gymnasium.register(
                env,
                entry_point=lambda env=env: vector.DomainEnv(DeepSea(env)),
                vector_entry_point=lambda num_envs, env=env: vector.DomainVectorEnv(
                    DeepSea(env), num_envs=num_envs, block=4096
                ),
                disable_env_checker=True,
            )


register()
