"""A plain agent class, unchanged: its constructor takes an env, its `train(episodes)` gives metrics.

Recognised by its methods, driven by driven.py. Files that it saves are its own affair: kept as bytes, never opened here.

A chunk is one call of `train`.
"""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from rlaas_ray.errors import InvalidInput
from rlaas_ray.policies import decoders, spaces
from rlaas_ray.policies.loaded import Drawn
from rlaas_ray.specs.arrays import F32, Array, Bool
from rlaas_ray.train.user import calls

METHODS = ("train", "choose_action", "update_model", "save_model", "load_model")
_MODEL, _PREFIX = "model", "files/"
# How agents commonly call "act as in use, not as in training".
_IN_USE: Mapping[str, bool] = {
    "explore": False,
    "training": False,
    "deterministic": True,
    "greedy": True,
    "evaluate": True,
}


def is_plain(kind: type[Any]) -> bool:
    """Whether a class has the methods of a plain agent, and not those of the protocol."""
    return all(callable(getattr(kind, name, None)) for name in METHODS) and not hasattr(kind, "load_state")


class PlainAgent:
    """One agent of the class, with the env that it was given."""

    def __init__(
        self, kind: type[Any], *, env: gymnasium.Env[Any, Any], config: Mapping[str, Any], seed: int, target: str
    ) -> None:
        self._target = target
        self._env = env
        taken = _parameters(kind)
        given = dict(config) | ({"seed": seed} if "seed" in taken and "seed" not in config else {})
        unknown = [name for name in given if name not in taken] if "**" not in taken else []
        if unknown:
            raise InvalidInput(
                f"options of {target}",
                given=unknown[0],
                expected=f"arguments of its constructor: {', '.join(sorted(taken)) or 'the env alone'}",
                cure="Leave it out, or let the constructor take it.",
            )
        with calls.theirs(target, "the constructor"):
            self.agent = kind(env, **given)
        self._in_use = {
            name: value for name, value in _IN_USE.items() if name in _parameters(type(self.agent).choose_action)
        }

    def chunks(self, *, episodes: int) -> Iterator[dict[str, float]]:
        """Metrics of one call of `train` after another, without end."""
        while True:
            with calls.theirs(self._target, "train"):
                given = self.agent.train(episodes)
            yield {} if given is None else calls.numbers(given)

    def state(self) -> dict[str, Array]:
        """The files that `save_model` writes, as bytes by name."""
        with tempfile.TemporaryDirectory() as folder:
            with calls.theirs(self._target, "save_model"):
                self.agent.save_model(str(Path(folder) / _MODEL))
            files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
            if not files:
                raise InvalidInput(
                    f"save_model of {self._target}",
                    given="no file",
                    expected="at least one file at or below the path that it is handed",
                    cure="Write there; a suffix may be added.",
                )
            return {
                f"{_PREFIX}{path.relative_to(folder)}": np.frombuffer(path.read_bytes(), dtype=np.uint8).copy()
                for path in files
            }

    def load_state(self, state: Mapping[str, Array]) -> None:
        """The same files, handed to `load_model`: only the agent's own code opens them."""
        with tempfile.TemporaryDirectory() as folder:
            write_files(state, folder=Path(folder))
            with calls.theirs(self._target, "load_model"):
                self.agent.load_model(str(Path(folder) / _MODEL))

    def action(self, observation: Any) -> Any:
        """What the agent does in use, for one raw observation."""
        with calls.theirs(self._target, "choose_action"):
            return self.agent.choose_action(observation, **self._in_use)

    @property
    def env(self) -> gymnasium.Env[Any, Any]:
        """The env that it was given."""
        return self._env


def write_files(state: Mapping[str, Array], *, folder: Path) -> list[Path]:
    """Writes the files of `PlainAgent.state` below `folder`; gives their paths. Raises InvalidInput for a path that leaves it."""
    written = []
    for name, content in state.items():
        path = (folder / name.removeprefix(_PREFIX)).resolve()
        if not name.startswith(_PREFIX) or not path.is_relative_to(folder.resolve()):
            raise InvalidInput(
                "a checkpoint of another algorithm",
                given=name,
                expected="the files of a plain agent",
                cure="Resume with the spec that the run was started with.",
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(np.asarray(content, dtype=np.uint8).tobytes())
        written.append(path)
    return written


class OneByOne:
    """A plain agent as evaluation asks it: it sees raw observations, one after another."""

    def __init__(self, agent: PlainAgent) -> None:
        self._agent = agent
        self._raw: list[Any] = []

    @property
    def action_space(self) -> spaces.Space:
        """Of one env."""
        return self._agent.env.action_space

    def encode(self, observations: Any) -> F32:
        """Keeps the raw batch for `decide`; the rows are empty, for nothing is encoded."""
        space = self._agent.env.observation_space
        self._raw = list(gymnasium.vector.utils.iterate(gymnasium.vector.utils.batch_space(space, 1), observations))
        return np.zeros((len(self._raw), 0), dtype=np.float32)

    def action_mask(self, observations: Any) -> Bool | None:
        """None: a plain agent sees the mask in its observation."""
        return None

    def decide(
        self, encoded: F32, *, rng: np.random.Generator, mask: Bool | None = None, state: F32 | None = None
    ) -> Drawn:
        """One decision for each observation of the last `encode`."""
        rows = [np.asarray(self._agent.action(raw), dtype=np.float64).reshape(-1) for raw in self._raw]
        executed = np.stack(rows)
        action = decoders.direct(self.action_space).decode(executed - self._start(), observations=encoded)
        return Drawn(action_proposed=executed, action=action, propensity=np.ones(len(rows)), probabilities=None)

    def _start(self) -> Any:
        """Agents count as the env does; decoders count from 0."""
        return np.asarray(getattr(self.action_space, "start", 0)).reshape(-1)


def _parameters(function: Any) -> set[str]:
    """Names that a call takes by keyword, without self and the first (the env, the state); `**` for any."""
    try:
        found = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return {"**"}
    own = [parameter for parameter in found if parameter.name != "self"][1:]
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    names = {parameter.name for parameter in own if parameter.kind in kinds}
    return names | {"**" for parameter in own if parameter.kind is inspect.Parameter.VAR_KEYWORD}
