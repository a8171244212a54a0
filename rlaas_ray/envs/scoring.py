"""Scores on one scale for every policy: random = 0, the reference = 100, on the same worlds; and how REFERENCE.json is made.

Called by `rlaas env score` and by reports. Pairs worlds by key: seed s and environment index i name the same day for every
policy. Never writes a file and reads no clock; revision and date are handed in.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np

from rlaas_ray.envs import philox, registry
from rlaas_ray.envs.ran import dynamics, references
from rlaas_ray.errors import InvalidInput, NotFound
from rlaas_ray.policies import builtin, spaces
from rlaas_ray.specs.arrays import F32, F64, Array

SEEDS = (9001, 9002, 9003, 9004, 9005)
EPISODES = 20
_RESAMPLES = 2000
_LEVEL = 0.95
_DRAWS = 20_260_101  # of sampling policies and of the bootstrap
_WHERE = {registry.RAN: ("rlaas_ray.envs.ran", "REFERENCE.json")}

Act = Callable[[Any, np.random.Generator], Array]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Score:
    """returns and costs of each episode (seeds * episodes,), the score with its interval, and on what it stands."""

    score: float
    score_ci95: tuple[float, float]
    return_mean: float
    return_ci95: tuple[float, float]
    returns: F64
    costs: tuple[float, ...]
    mode: str
    seeds: tuple[int, ...]
    episodes: int

    def to_json(self) -> dict[str, Any]:
        """The numbers of the card."""
        return {
            "score": self.score,
            "score_ci95": list(self.score_ci95),
            "return_mean": self.return_mean,
            "return_ci95": list(self.return_ci95),
            "costs": list(self.costs),
            "mode": self.mode,
            "seeds": list(self.seeds),
            "episodes": self.episodes,
        }


def score(
    env: str, act: Act, *, mode: str | None = None, seeds: Sequence[int] = SEEDS, episodes: int = EPISODES
) -> Score:
    """Run a policy on the reference's worlds and place it between random (0) and the reference (100).

    `act(observations, rng)` gives the batch of actions. The interval is a percentile bootstrap over worlds, the policy and
    random paired.
    """
    chosen = "normal" if mode is None else mode
    known = reference(env)["modes"].get(chosen)
    if known is None:
        raise InvalidInput(
            "mode", given=mode, expected=", ".join(reference(env)["modes"]), cure="Name a mode of the card."
        )
    if not set(seeds) <= set(known["seeds"]) or episodes > known["episodes"]:
        raise InvalidInput(
            "worlds to score on",
            given=(list(seeds), episodes),
            expected=f"seeds among {known['seeds']}, at most {known['episodes']} episodes each",
            cure="Score on the worlds of the card; others have no random and no reference to be compared with.",
        )
    returns, costs = episode_returns(env, act, mode=chosen, seeds=seeds, episodes=episodes)
    rows = [known["seeds"].index(seed) for seed in seeds]
    low = np.asarray(known["policies"][known["random"]]["returns"])[rows, :episodes].ravel()
    high = np.asarray(known["policies"][known["reference"]]["returns"]).ravel()
    place, interval = _score(returns, low=low, high=high)
    return Score(
        score=place,
        score_ci95=interval,
        return_mean=float(returns.mean()),
        return_ci95=mean_interval(returns),
        returns=returns,
        costs=tuple(float(one) for one in costs.mean(axis=0)),
        mode=chosen,
        seeds=tuple(seeds),
        episodes=episodes,
    )


def episode_returns(
    env: str,
    act: Act,
    *,
    mode: str | None,
    seeds: Sequence[int],
    episodes: int,
    config: Mapping[str, Any] | None = None,
) -> tuple[F64, F64]:
    """Return (n,) and mean cost (n, K) of the first episode of each world, n = seeds * episodes, seed-major."""
    returns, costs = [], []
    for seed in seeds:
        worlds = registry.make_vector(env, num_envs=episodes, seed=seed, mode=mode, config=config)
        rng = np.random.default_rng((_DRAWS, seed))
        seen, _ = worlds.reset(seed=seed) if env in registry.ours() else worlds.reset()
        total, running = np.zeros(episodes), np.ones(episodes, np.bool_)
        spent, length = np.zeros((episodes, 0)), np.zeros(episodes)
        while running.any():
            seen, reward, ended, cut, info = worlds.step(act(seen, rng))
            total += np.where(running, reward, 0.0)
            cost = np.asarray(info.get("cost", np.zeros((episodes, 0))))
            spent = (spent if spent.shape == cost.shape else np.zeros(cost.shape)) + cost * running[:, None]
            length += running
            running = running & ~(np.asarray(ended) | np.asarray(cut))
        returns.append(total)
        costs.append(spent / length[:, None])
        worlds.close()
    return np.concatenate(returns), np.concatenate(costs)


def act_of(policy: builtin.Builtin, *, env: str) -> Act:
    """A built-in policy as `act`: encoded, drawn, in the environment's units."""
    observation_space, action_space = registry.spaces(env)

    def act(observations: Any, rng: np.random.Generator) -> Array:
        encoded: F32 = spaces.encode(observation_space, observations)
        drawn = policy.head.sample(policy.distribution(encoded), rng=rng)
        return spaces.actions(action_space, drawn)

    return act


def reference(env: str) -> dict[str, Any]:
    """REFERENCE.json of an environment."""
    if env not in _WHERE:
        raise NotFound(
            f"reference of {env!r}",
            given=env,
            expected=", ".join(_WHERE),
            cure="Only these have a card; evaluate instead of scoring.",
        )
    package, name = _WHERE[env]
    document: dict[str, Any] = json.loads(resources.files(package).joinpath(name).read_text(encoding="utf-8"))
    return document


def measure_reference(
    *,
    mode: str,
    seeds: Sequence[int] = SEEDS,
    episodes: int = EPISODES,
    reference_episodes: int = 6,
    told: Callable[[str], object] = str,
) -> dict[str, Any]:
    """RanControl's entry of one mode: all policies, greedy_sleep and the bound on every world, coordinate ascent on fewer."""
    module = registry.baselines_of(registry.RAN)
    assert module is not None
    policies: dict[str, Any] = {}
    for name in ("random", "hold", "grid", "load_balance"):
        made = module.POLICIES[name](**({"mode": mode} if name == "grid" else {}))
        returns, costs = episode_returns(
            registry.RAN, act_of(made, env=registry.RAN), mode=mode, seeds=seeds, episodes=episodes
        )
        policies[name] = _entry(returns, costs=costs, seeds=seeds)
        told(f"{mode} {name} {policies[name]['mean']:.2f}")
    for name, count in (("greedy_sleep", episodes), (module.REFERENCE, reference_episodes)):
        returns, costs, bounds = _reference_returns(module.REFERENCES[name], mode=mode, seeds=seeds, episodes=count)
        policies[name] = _entry(returns, costs=costs, seeds=seeds)
        if count == episodes:
            policies["bound"] = _entry(bounds, costs=np.zeros((len(bounds), 0)), seeds=seeds)
        told(f"{mode} {name} {policies[name]['mean']:.2f}")
    return {
        "random": "random",
        "reference": module.REFERENCE,
        "seeds": list(seeds),
        "episodes": episodes,
        "reference_episodes": reference_episodes,
        "policies": policies,
    }


def document(modes: Mapping[str, Any], *, revision: str, date: str) -> dict[str, Any]:
    """REFERENCE.json: what was measured, on which worlds, with which code, when."""
    return {
        "env": registry.RAN,
        "episode_length": dynamics.HOURS,
        "interval": f"percentile bootstrap over worlds, {_RESAMPLES} resamples, {_LEVEL:.0%}",
        "worlds": "key (seed, i), episode 0, i below episodes; coordinate_ascent on the first reference_episodes of each seed",
        "git": revision,
        "date": date,
        "modes": dict(modes),
    }


def mean_interval(values: F64) -> tuple[float, float]:
    """Percentile bootstrap of the mean, 95 %."""
    means = values[_resampled(len(values), stream=0)].mean(axis=1)
    return _percentiles(means)


def difference_interval(first: F64, second: F64) -> tuple[float, float]:
    """Percentile bootstrap of the mean of paired differences, 95 %."""
    return mean_interval(first - second)


def _score(returns: F64, *, low: F64, high: F64) -> tuple[float, tuple[float, float]]:
    place = 100.0 * (returns.mean() - low.mean()) / (high.mean() - low.mean())
    rows = _resampled(len(returns), stream=0)
    zero = low[rows].mean(axis=1)
    top = high[_resampled(len(high), stream=1)].mean(axis=1)
    places = 100.0 * (returns[rows].mean(axis=1) - zero) / (top - zero)
    return float(place), _percentiles(places)


def _resampled(count: int, *, stream: int) -> Array:
    return np.random.default_rng((_DRAWS, stream)).integers(count, size=(_RESAMPLES, count))


def _percentiles(values: F64) -> tuple[float, float]:
    tail = 100.0 * (1.0 - _LEVEL) / 2.0
    low, high = np.percentile(values, (tail, 100.0 - tail))
    return float(low), float(high)


def _entry(returns: F64, *, costs: F64, seeds: Sequence[int]) -> dict[str, Any]:
    low, high = mean_interval(returns)
    return {
        "mean": round(float(returns.mean()), 4),
        "ci95": [round(low, 4), round(high, 4)],
        "costs": [round(float(one), 4) for one in costs.mean(axis=0)],
        "returns": np.round(returns.reshape(len(seeds), -1), 4).tolist(),
    }


def _reference_returns(
    make: Callable[[dynamics.Params], references.Reference], *, mode: str, seeds: Sequence[int], episodes: int
) -> tuple[F64, F64, F64]:
    params = dynamics.params(mode)
    reference_ = make(params)
    totals = [[], [], []]  # type: list[list[F64]]
    for seed in seeds:
        streams = philox.streams(seed, num_envs=episodes)
        state, _, _ = dynamics.reset_batch(params, streams)
        total, spent, above = np.zeros(episodes), np.zeros((episodes, 4)), np.zeros(episodes)
        for _ in range(params.episode_length):
            ahead = dynamics.renew(params, state, streams=streams)
            above += references.bound(params, ahead)
            power, tilt = reference_.settle(ahead)
            state = dict(state, power=power, tilt=tilt)
            state, _, reward, cost, _, _, _ = dynamics.step_batch(params, state, references.stay(state), streams)
            total += reward
            spent += cost / params.episode_length
        for kept, value in zip(totals, (total, spent, above), strict=True):
            kept.append(value)
    return tuple(np.concatenate(kept) for kept in totals)  # type: ignore[return-value]
