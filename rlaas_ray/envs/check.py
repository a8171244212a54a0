"""Is an environment fit for the product? Gymnasium's own checks, then ours, stricter where training or serving would suffer.

Called by `rlaas env check` and by tests, for our environments and anybody's `module:Class`. Steps only environments that it made.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils import env_checker
from gymnasium.vector import AutoresetMode

from rlaas_ray.envs import registry
from rlaas_ray.errors import RlaasError
from rlaas_ray.policies import spaces
from rlaas_ray.specs.arrays import Array

_STEPS = 200
_ENVS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One check: passed, or why not. `advice` findings do not make an environment unfit."""

    name: str
    passed: bool
    detail: str = ""
    advice: bool = False


class _Failed(Exception):
    """A check's own words for what is wrong."""


def check(env: str, *, config: Mapping[str, Any] | None = None) -> tuple[Finding, ...]:
    """Every check, in order; all that can run do run, whatever failed before. An environment that cannot be made raises."""
    registry.make(env, config=config).close()  # type: ignore[no-untyped-call]

    def fresh() -> gymnasium.Env[Any, Any]:
        return registry.make(env, config=config)

    checks: list[tuple[str, Callable[[], None], bool]] = [
        ("gymnasium's check_env", lambda: _gymnasium(fresh()), False),
        ("spaces can be served", lambda: _spaces(fresh()), False),
        ("observations stay in their space, rewards are finite", lambda: _long_run(fresh()), False),
        ("the same seed gives the same episode", lambda: _same_seed(fresh), False),
        ("different seeds give different episodes", lambda: _other_seed(fresh), True),
        ("actions that are not numbers are refused", lambda: _refuses_nan(fresh()), True),
        ("the vector form says how it resets and agrees with its spaces", lambda: _vector(env, config=config), False),
        ("the vector form repeats itself under the same seed", lambda: _vector_seed(env, config=config), False),
        (
            "an environment of the vector is the same alone",
            lambda: _alone(env, config=config),
            env not in registry.ours(),
        ),
        ("a picture is an RGB array", lambda: _picture(env, config=config), True),
        ("objectives and costs are described", lambda: _objectives(fresh()), True),
    ]
    return tuple(_run(name, body, advice=advice) for name, body, advice in checks)


def fit(findings: tuple[Finding, ...]) -> bool:
    """True when nothing but advice failed."""
    return all(finding.passed or finding.advice for finding in findings)


def _run(name: str, body: Callable[[], None], *, advice: bool) -> Finding:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            body()
    except _Failed as failure:
        return Finding(name=name, passed=False, detail=str(failure), advice=advice)
    except Exception as error:  # noqa: BLE001 - foreign code under test: whatever it raises is the finding
        return Finding(name=name, passed=False, detail=f"{type(error).__name__}: {error}", advice=advice)
    return Finding(name=name, passed=True, advice=advice)


def _gymnasium(made: gymnasium.Env[Any, Any]) -> None:
    with warnings.catch_warnings():
        # Taste, not faults: unbounded or unnormalised spaces, and an environment that came without a spec.
        for taste in ("infinity", "symmetric and normalized", "not within the observation", "spec"):
            warnings.filterwarnings("ignore", message=f".*{taste}.*")
        env_checker.check_env(made.unwrapped, skip_render_check=True)


def _spaces(made: gymnasium.Env[Any, Any]) -> None:
    for space in (made.observation_space, made.action_space):
        spaces.from_json(spaces.to_json(space))
    seen, _ = made.reset(seed=0)
    encoded = spaces.encode_one(made.observation_space, seen)
    if encoded.shape != (spaces.encoded_size(made.observation_space),):
        raise _Failed(f"encoded observation has shape {encoded.shape}")


def _long_run(made: gymnasium.Env[Any, Any]) -> None:
    seen, _ = made.reset(seed=1)
    made.action_space.seed(1)
    for step in range(_STEPS):
        if not made.observation_space.contains(seen):
            raise _Failed(f"observation of step {step} is outside {made.observation_space}")
        seen, reward, ended, cut, info = made.step(made.action_space.sample())
        if not np.isfinite(float(reward)):
            raise _Failed(f"reward of step {step} is {reward}")
        if not isinstance(info, dict):
            raise _Failed(f"info of step {step} is {type(info).__name__}, not dict")
        if ended or cut:
            seen, _ = made.reset()


def _same_seed(fresh: Callable[[], gymnasium.Env[Any, Any]]) -> None:
    first, second = _episode(fresh(), seed=7), _episode(fresh(), seed=7)
    if not _equal(first, second):
        raise _Failed("two environments with seed 7 and the same actions gave different numbers")


def _other_seed(fresh: Callable[[], gymnasium.Env[Any, Any]]) -> None:
    if _equal(_episode(fresh(), seed=7), _episode(fresh(), seed=8)):
        raise _Failed("seeds 7 and 8 gave the same episode: deterministic, or the seed is ignored")


def _refuses_nan(made: gymnasium.Env[Any, Any]) -> None:
    if not isinstance(made.action_space, gymnasium.spaces.Box):
        return
    made.reset(seed=0)
    try:
        made.step(np.full(made.action_space.shape, np.nan, dtype=made.action_space.dtype))
    except (ValueError, AssertionError, RlaasError):
        return
    raise _Failed("an action of NaN was taken without a word")


def _vector(env: str, *, config: Mapping[str, Any] | None) -> None:
    worlds = registry.make_vector(env, num_envs=_ENVS, seed=0, config=config)
    if not isinstance(worlds.metadata.get("autoreset_mode"), AutoresetMode):
        raise _Failed("metadata['autoreset_mode'] is missing")
    seen, _ = worlds.reset(seed=0)
    for _ in range(3):
        if not worlds.observation_space.contains(seen):
            raise _Failed(f"the batch of observations is outside {worlds.observation_space}")
        seen, reward, ended, cut, _ = worlds.step(worlds.action_space.sample())
        for name, value in (("rewards", reward), ("terminations", ended), ("truncations", cut)):
            if np.shape(value) != (_ENVS,):
                raise _Failed(f"{name} have shape {np.shape(value)}, not ({_ENVS},)")
    worlds.close()


def _vector_seed(env: str, *, config: Mapping[str, Any] | None) -> None:
    runs = []
    for _ in range(2):
        worlds = registry.make_vector(env, num_envs=_ENVS, seed=0, config=config)
        worlds.action_space.seed(0)
        numbers = [_flat(worlds.reset(seed=11)[0])]
        for _ in range(5):
            seen, reward, *_ = worlds.step(worlds.action_space.sample())
            numbers += [_flat(seen), np.asarray(reward)]
        runs.append(numbers)
        worlds.close()
    if not _equal(*runs):
        raise _Failed("two vectors with the same seed and actions gave different numbers")


def _alone(env: str, *, config: Mapping[str, Any] | None) -> None:
    """The last of three from the same seed and number, stepped by itself: bit by bit the same."""
    many = registry.make_vector(env, num_envs=_ENVS, seed=5, config=config)
    one = registry.make_vector(env, num_envs=1, seed=5, first_index=_ENVS - 1, config=config)
    many.action_space.seed(0)
    numbers: tuple[list[Array], list[Array]] = ([_flat(_last(many.reset()[0]))], [_flat(one.reset()[0])])
    for _ in range(20):
        actions = many.action_space.sample()
        for kept, worlds, given in ((numbers[0], many, actions), (numbers[1], one, _last(actions))):
            seen, reward, *_ = worlds.step(given)
            kept += [_flat(_last(seen)), np.asarray(reward)[-1]]
    many.close()
    one.close()
    if not _equal(*numbers):
        raise _Failed("number 2 of three gave other numbers than the same one by itself")


def _last(batch: Any) -> Any:
    if isinstance(batch, dict):
        return {name: _last(value) for name, value in batch.items()}
    if isinstance(batch, tuple):
        return tuple(_last(part) for part in batch)
    return batch[-1:]


def _picture(env: str, *, config: Mapping[str, Any] | None) -> None:
    made = registry.make(env, config={**(config or {}), "render_mode": "rgb_array"})
    made.reset(seed=0)
    shown = np.asarray(made.render())
    made.close()  # type: ignore[no-untyped-call]
    if shown.dtype != np.uint8 or shown.ndim != 3 or shown.shape[2] != 3:
        raise _Failed(f"render() gave {shown.dtype} {shown.shape}, not uint8 (height, width, 3)")


def _objectives(made: gymnasium.Env[Any, Any]) -> None:
    named = made.metadata.get("objectives")
    if not named:
        raise _Failed("metadata['objectives'] is missing: the reward is all there is to report")
    made.reset(seed=0)
    told = np.asarray(made.step(made.action_space.sample())[4].get("objectives", ()))
    if told.shape != (len(named),):
        raise _Failed(f"info['objectives'] has shape {told.shape}, metadata names {len(named)}")


def _episode(made: gymnasium.Env[Any, Any], *, seed: int) -> list[Array]:
    made.action_space.seed(0)
    seen, _ = made.reset(seed=seed)
    numbers = [_flat(seen)]
    for _ in range(20):
        seen, reward, ended, cut, _ = made.step(made.action_space.sample())
        numbers += [_flat(seen), np.asarray(float(reward))]
        if ended or cut:
            break
    return numbers


def _flat(seen: Any) -> Array:
    if isinstance(seen, dict):
        return np.concatenate([_flat(seen[key]) for key in sorted(seen)])
    if isinstance(seen, tuple):
        return np.concatenate([_flat(part) for part in seen])
    return np.asarray(seen, dtype=np.float64).ravel()


def _equal(first: list[Array], second: list[Array]) -> bool:
    return len(first) == len(second) and all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
