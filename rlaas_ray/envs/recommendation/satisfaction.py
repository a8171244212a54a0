"""Long-term satisfaction: clickbait earns now and wears the user out; kale earns less and keeps them content.

Called by env.py for `dynamics="long_term_satisfaction"`. Re-derived from the parameters of RecSim's environment of that name
(google-research/recsim, long_term_satisfaction.py). Satisfaction is hidden. The source's docstring writes the clickbait term
with a plus, its code with a minus; the minus makes sense and is ours.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from rlaas_ray.envs import modes, philox
from rlaas_ray.envs.recommendation import choice, forms
from rlaas_ray.errors import InvalidInput, nearest
from rlaas_ray.specs.arrays import F32, F64, Array, Bool

STEPS = 60
KEPT, NOISE_SD = 0.7, 0.05  # of net positive exposure, a step
CHOC, KALE = 5.0, 4.0  # log engagement of all clickbait, of none, at full satisfaction
LAST_AT_MOST = 100.0  # of the last engagement as it is seen
PRESETS = {"published": 0.01, "hard": 0.3}
OBJECTIVES = [("engagement", "1", "max"), ("satisfaction", "1", "max")]
NAMES = tuple(name for name, _, _ in OBJECTIVES)
MODES = {"watch": (1.0, 0.0)}
METADATA = {"costs": ["clickbait"], "cost_limits": [0.5], "modes": list(MODES)}

_RESET, _STEP = 3, 4  # purposes of the generator
# Words: 10 clickbait scores; a reset then has the first exposure, a step two of the normals.
_EXPOSURE, _NOISE = 10, slice(10, 12)
_BLOCKS = np.arange(3, dtype=np.uint32)
State = dict[str, Any]


class Satisfaction:
    """The domain (vector.Domain). The user takes the first slot whatever else is shown, so an action names one candidate."""

    reported = ("objectives", "cost")

    def __init__(
        self,
        *,
        mode: str = "watch",
        weights: modes.Given | None = None,
        action: str = "index",
        preset: str = "published",
        sens: float | None = None,
    ) -> None:
        if preset not in PRESETS:
            raise InvalidInput("preset", given=preset, expected=", ".join(PRESETS), cure=nearest(preset, list(PRESETS)))
        if sens is not None and not 0.0 <= sens <= 10.0:
            raise InvalidInput("sens", given=sens, expected="0 to 10", cure="Leave it out for the preset's.")
        self.sens = PRESETS[preset] if sens is None else float(sens)
        self.weights = modes.weights_of(mode, weights=weights, modes=MODES, names=NAMES, shares=False)
        self.objectives, self.metadata = OBJECTIVES, METADATA
        self.observation_space = gymnasium.spaces.Box(0.0, 1.0, (choice.CANDIDATES + 1,), np.float32)
        self._form = forms.single(action)
        self.action_space = self._form.space

    def check(self, action: Any) -> Array:
        """See forms.py."""
        return self._form.check(action)

    def reset(self, streams: philox.Streams) -> tuple[State, F32, dict[str, Any]]:
        """New users, whose exposure is uniform on (-0.5, 0.5) / (1 - 0.7)."""
        count = len(streams.seed)
        now = np.zeros(count, dtype=np.uint32)
        drawn = philox.u01(streams.words(_BLOCKS, t=now, purpose=np.full(len(_BLOCKS), _RESET, np.uint32)))
        exposure = (drawn[:, _EXPOSURE] - 0.5) / (1.0 - KEPT)
        state = {
            "clickbait": drawn[:, : choice.CANDIDATES].copy(),
            "exposure": exposure,
            "last": np.zeros(count),
            "t": now,
        }
        info = {"objectives": np.zeros((count, len(NAMES))), "cost": np.zeros((count, 1))}
        return state, _observe(state), info

    def step(
        self, state: State, action: Any, *, streams: philox.Streams
    ) -> tuple[State, F32, F64, F64, Bool, Bool, dict[str, Any]]:
        """The user takes the named candidate: engagement is log-normal in its clickbait score and the satisfaction before it."""
        rows = np.arange(len(action))
        drawn = philox.u01(streams.words(_BLOCKS, t=state["t"], purpose=np.full(len(_BLOCKS), _STEP, np.uint32)))
        normal = philox.normals(drawn[:, _NOISE])
        score = state["clickbait"][rows, self._form.first(action)]
        content = satisfaction(state["exposure"], sens=self.sens)
        engagement = np.exp(content * (CHOC * score + KALE * (1.0 - score)) + normal[:, 0])
        exposure = KEPT * state["exposure"] - 2.0 * (score - 0.5) + NOISE_SD * normal[:, 1]
        after = {
            "clickbait": drawn[:, : choice.CANDIDATES].copy(),
            "exposure": exposure,
            "last": engagement,
            "t": state["t"] + np.uint32(1),
        }
        ended = after["t"] >= STEPS
        left = satisfaction(exposure, sens=self.sens)
        cost = score[:, None].copy()
        reward = self.weights[0] * engagement + self.weights[1] * left
        info = {"objectives": np.stack((engagement, left), axis=1), "cost": cost}
        return after, _observe(after), reward, cost, ended, np.zeros(len(rows), np.bool_), info

    def draw(self, state: State) -> Array:
        """Candidates and the user's hidden satisfaction, see picture.py."""
        from rlaas_ray.envs.recommendation import picture  # noqa: PLC0415 - matplotlib is only for those who look

        return picture.draw_satisfaction(state, content=satisfaction(state["exposure"], sens=self.sens))


def satisfaction(exposure: F64, *, sens: float) -> F64:
    """Sigmoid of sens times net positive exposure. Same shape."""
    return 1.0 / (1.0 + np.exp(-sens * exposure))


def _observe(state: State) -> F32:
    seen = np.empty((len(state["t"]), choice.CANDIDATES + 1), dtype=np.float32)
    seen[:, : choice.CANDIDATES] = state["clickbait"]
    seen[:, choice.CANDIDATES] = np.minimum(state["last"], LAST_AT_MOST) / LAST_AT_MOST
    return seen
