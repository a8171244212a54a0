"""Scores on one scale for every policy: random = 0, the reference = 100, on the same worlds; and how REFERENCE.json is made.

Called by `rlaas env score`, `rlaas env reference` and by reports. Pairs worlds by key: seed s and environment index i name the
same day for every policy. Never writes a file and reads no clock; revision and date are handed in.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from types import ModuleType
from typing import Any

import numpy as np

from rlaas_ray.envs import registry
from rlaas_ray.envs.catalogue import ENTRIES
from rlaas_ray.errors import InvalidInput, NotFound, nearest
from rlaas_ray.policies import builtin, heads, spaces
from rlaas_ray.specs.arrays import F32, F64, Array

SEEDS = (9001, 9002, 9003, 9004, 9005)
EPISODES = 20
_RESAMPLES = 2000
_LEVEL = 0.95
_DRAWS = 20_260_101  # of sampling policies and of the bootstrap

Act = Callable[[Any, np.random.Generator], Array]  # (observations, rng) -> the batch of actions
Play = Callable[[], Act]  # a fresh one for each batch of episodes, because a policy may remember


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
    env: str, play: Play, *, mode: str | None = None, seeds: Sequence[int] = SEEDS, episodes: int = EPISODES
) -> Score:
    """Run a policy on the reference's worlds and place it between random (0) and the reference (100).

    `mode` names a setting of the card, its first where None. The interval is a percentile bootstrap over worlds, the policy
    and random paired. Raises InvalidInput for a setting or worlds that the card has not, NotFound where there is no card.
    """
    card = reference(env)["modes"]
    chosen = next(iter(card)) if mode is None else mode
    known = card.get(chosen)
    if known is None:
        raise InvalidInput("mode", given=mode, expected=", ".join(card), cure="Name a mode of the card.")
    if not set(seeds) <= set(known["seeds"]) or episodes > known["episodes"]:
        raise InvalidInput(
            "worlds to score on",
            given=(list(seeds), episodes),
            expected=f"seeds among {known['seeds']}, at most {known['episodes']} episodes each",
            cure="Score on the worlds of the card; others have no random and no reference to be compared with.",
        )
    named, config = settings(env)[chosen]
    returns, costs = episode_returns(env, play, mode=named, seeds=seeds, episodes=episodes, config=config)
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
    play: Play,
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
        act, rng = play(), np.random.default_rng((_DRAWS, seed))
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


def act_of(policy: builtin.Builtin, *, env: str, config: Mapping[str, Any] | None = None) -> Play:
    """A built-in policy: encoded, drawn under the mask that the observation brings, in the environment's units."""
    observation_space, action_space = registry.spaces(env, config=config)

    def play() -> Act:
        memory: dict[str, F32] = {}

        def act(observations: Any, rng: np.random.Generator) -> Array:
            encoded: F32 = spaces.encode(observation_space, observations)
            if isinstance(policy, builtin.Remembering):
                before = memory.get("state", np.zeros((len(encoded), policy.state_size), np.float32))
                params, memory["state"] = policy.step(encoded, before)
            else:
                params = policy.distribution(encoded)
            mask = spaces.action_mask(observation_space, observations)
            drawn = policy.head.sample(params if mask is None else heads.masked(params, mask), rng=rng)
            return spaces.actions(action_space, drawn)

        return act

    return play


def settings(env: str) -> Mapping[str, tuple[str, Mapping[str, Any]]]:
    """What the card of an environment is measured on: name -> (mode, configuration). Without others: its modes."""
    module = registry.baselines_of(env)
    if module is None:
        raise _no_card(env)
    named: Mapping[str, tuple[str, Mapping[str, Any]]] | None = getattr(module, "SETTINGS", None)
    if named is not None:
        return named
    made = registry.make(env)
    names = made.metadata["modes"]
    made.close()  # type: ignore[no-untyped-call]  # Gymnasium leaves it untyped
    return {mode: (mode, {}) for mode in names}


def reference(env: str) -> dict[str, Any]:
    """The card of an environment."""
    entry = ENTRIES.get(registry.resolve(env))
    if entry is None or entry.card is None:
        raise _no_card(env)
    package = entry.baselines.rpartition(".")[0]
    document: dict[str, Any] = json.loads(resources.files(package).joinpath(entry.card).read_text(encoding="utf-8"))
    return document


def _no_card(env: str) -> NotFound:
    carded = [name for name, entry in ENTRIES.items() if entry.card is not None]
    return NotFound(
        f"reference of {env!r}",
        given=env,
        expected=", ".join(carded),
        cure=f"Only these have a card; evaluate instead of scoring. {nearest(env, carded)}",
    )


def measure_reference(
    env: str,
    *,
    setting: str,
    seeds: Sequence[int] = SEEDS,
    episodes: int = EPISODES,
    told: Callable[[str], object] = str,
) -> dict[str, Any]:
    """The card's entry of one setting: what `card` of the baselines' module names, then its REFERENCES, on the same worlds.

    The module's SLOW (name -> episodes of each seed) spares references that take long.
    """
    module, (mode, config) = registry.baselines_of(env), settings(env)[setting]
    assert module is not None
    policies: dict[str, Any] = {}
    for name, policy in carded(module, mode=mode, config=config).items():
        returns, costs = episode_returns(
            env, act_of(policy, env=env, config=config), mode=mode, seeds=seeds, episodes=episodes, config=config
        )
        policies[name] = _entry(returns, costs=costs, seeds=seeds)
        told(f"{setting} {name} {policies[name]['mean']:.2f}")
    slow: Mapping[str, int] = getattr(module, "SLOW", {})
    for name, played in module.REFERENCES.items():
        count = min(slow.get(name, episodes), episodes)
        runs = [played(mode=mode, seed=seed, episodes=count, config=config) for seed in seeds]
        returns, costs = (np.concatenate([run[k] for run in runs]) for k in (0, 1))
        policies[name] = _entry(returns, costs=costs, seeds=seeds)
        told(f"{setting} {name} {policies[name]['mean']:.2f}")
    return {
        "random": "random",
        "reference": module.REFERENCE,
        "seeds": list(seeds),
        "episodes": episodes,
        "reference_episodes": min(slow.get(module.REFERENCE, episodes), episodes),
        "policies": policies,
    }


def carded(module: ModuleType, *, mode: str, config: Mapping[str, Any]) -> Mapping[str, builtin.Builtin]:
    """The policies of a setting: what `card` of a baselines' module gives for a mode, and for a configuration if it asks."""
    asks = "config" in inspect.signature(module.card).parameters
    found: Mapping[str, builtin.Builtin] = module.card(mode, config=config) if asks else module.card(mode)
    return found


def document(env: str, modes: Mapping[str, Any], *, revision: str, date: str) -> dict[str, Any]:
    """REFERENCE.json: what was measured, on which worlds, with which code, when."""
    return {
        "env": env,
        "interval": f"percentile bootstrap over worlds, {_RESAMPLES} resamples, {_LEVEL:.0%}",
        "worlds": "key (seed, i), episode 0, i below episodes; fewer for a reference that takes long",
        "git": revision,
        "date": date,
        "modes": dict(modes),
    }


def text(document: Mapping[str, Any]) -> str:
    """The document as JSON with one line a policy: a diff shows which one moved."""
    kept = {name: value for name, value in document.items() if name != "modes"}
    lines = [f" {json.dumps(name)}: {json.dumps(value)}," for name, value in kept.items()]
    modes = []
    for mode, entry in document["modes"].items():
        facts = [f"   {json.dumps(name)}: {json.dumps(value)}," for name, value in entry.items() if name != "policies"]
        policies = ",\n".join(f"    {json.dumps(name)}: {json.dumps(one)}" for name, one in entry["policies"].items())
        modes.append("\n".join((f"  {json.dumps(mode)}: {{", *facts, '   "policies": {', policies, "   }", "  }")))
    return "\n".join(("{", *lines, ' "modes": {', ",\n".join(modes), " }", "}")) + "\n"


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
