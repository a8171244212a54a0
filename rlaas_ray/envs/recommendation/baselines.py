"""Baselines of SlateRecommendation: POLICIES see the observation alone and can serve, REFERENCES see the simulator's state.

Found through the entry-point group `rlaas.baselines` and `envs/registry.py`. Nothing here learns. Policies that use interests
or quality need an observation that shows them; where quality is hidden they take the mean of the document's topic instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlaas_ray.envs import philox
from rlaas_ray.envs.recommendation import choice, dynamics, env, metrics
from rlaas_ray.errors import InvalidInput, nearest
from rlaas_ray.policies import builtin, heads
from rlaas_ray.specs.arrays import F32, F64, I64

# What a minute is worth to a rule of each mode: the best of a few that were tried (docs/recommendation.md).
PRICES: Mapping[str, float] = {"watch": 1.4, "revenue_focused": 0.4, "engagement": 0.4, "discovery": 0.55}
NO_CLICK, LENGTH, SAVED = dynamics.NO_CLICK_MIN, dynamics.LENGTH_MIN, dynamics.GAIN * dynamics.LENGTH_MIN
_POINT, _SCORES = heads.Point(entries=1), heads.Point(entries=choice.CANDIDATES)
_ACTIONS = ("index", "scores")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidates:
    """What a rule needs of each of n users' ten candidates, each (n, 10): topic, interest in it, quality."""

    topic: I64
    interest: F64
    quality: F64


@dataclass(frozen=True, slots=True, kw_only=True)
class Values:
    """What a click on a document is worth in a mode, the time that it uses priced at `price` a minute."""

    price: float
    weights: tuple[float, ...] | None  # of ctr, cvr, diversity; None for minutes watched

    def of_click(self, seen: Candidates) -> F64:
        """(n, 10), the time that a click uses paid for."""
        used = LENGTH - SAVED * seen.quality
        if self.weights is None:
            return LENGTH - self.price * used
        ctr, cvr, _ = self.weights
        return ctr + cvr * metrics.conversion(seen.interest, seen.quality) - self.price * used

    @property
    def of_diversity(self) -> float:
        """Of a whole point of intra-list diversity."""
        return 0.0 if self.weights is None else self.weights[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class TopOf:
    """The three candidates with the highest scores of some rule over what is seen, as an index or as scores of its own."""

    rule: Callable[[Candidates], F64]
    action: str = "index"

    @property
    def head(self) -> heads.Head:
        """The action itself."""
        return _SCORES if self.action == "scores" else _POINT

    def distribution(self, observations: F32) -> F32:
        """Indices of slates (n, 1), or 1 for what is shown and -1 for the rest (n, 10)."""
        shown = choice.top(self.rule(seen_in(observations)))
        if self.action != "scores":
            return choice.index_of(shown)[:, None].astype(np.float32)
        scores = np.full((len(shown), choice.CANDIDATES), -1.0, dtype=np.float32)
        np.put_along_axis(scores, shown, np.float32(1.0), axis=1)
        return scores


def seen_in(observations: F32) -> Candidates:
    """Candidates as an observation shows them."""
    wide = observations.astype(np.float64)
    one_hot = wide[:, dynamics.TOPIC : dynamics.QUALITY].reshape(len(wide), choice.CANDIDATES, dynamics.TOPICS)
    topic: I64 = one_hot.argmax(axis=2)
    quality = wide[:, dynamics.QUALITY :] * dynamics.QUALITY_SCALE
    hidden = (quality == 0.0).all(axis=1)[:, None]
    interest = np.take_along_axis(wide[:, : dynamics.TOPICS], topic, axis=1)
    return Candidates(topic=topic, interest=interest, quality=np.where(hidden, dynamics.MEANS[topic], quality))


def seen_of(state: Mapping[str, Any]) -> Candidates:
    """Candidates as they are."""
    interest = np.take_along_axis(state["interests"], state["topic"], axis=1)
    return Candidates(topic=state["topic"], interest=interest, quality=state["quality"])


def best_slate(seen: Candidates, *, values: Values, rule: str = "mnl") -> I64:
    """The slate (n,) of the 120 with the greatest expected value of the coming step, time priced: interests held still.

    Renewal-reward: at the right price the sum over a session is greatest, were the user's interests to stay as they are.
    """
    mass, null = choice.mass(seen.interest, rule=rule), choice.NULL[rule]
    worth = mass * values.of_click(seen)
    total = np.full((len(mass), len(choice.SLATES)), null)
    value = np.full_like(total, -values.price * NO_CLICK * null)
    for slot in range(choice.SHOWN):
        total += mass[:, choice.SLATES[:, slot]]
        value += worth[:, choice.SLATES[:, slot]]
    value /= total
    if values.of_diversity:
        value += values.of_diversity * metrics.diversity(seen.topic[:, choice.SLATES])
    return np.asarray(value.argmax(axis=1), dtype=np.int64)


def random(action: str = "index") -> builtin.Builtin:
    """Each of the 120 slates as probable."""
    if _form(action) == "scores":
        ends = (-1.0,) * choice.CANDIDATES, (1.0,) * choice.CANDIDATES
        return builtin.Uniform(head=heads.UniformBox(low=ends[0], high=ends[1]))
    return builtin.Uniform(head=heads.Categorical(n=len(choice.SLATES)))


def myopic_pctr(action: str = "index") -> builtin.Builtin:
    """What is most likely to be clicked now."""
    return TopOf(rule=lambda seen: seen.interest, action=_form(action))


def myopic_conversion(action: str = "index") -> builtin.Builtin:
    """What is most likely to be clicked and to convert now."""

    def rule(seen: Candidates) -> F64:
        return np.exp(seen.interest) * metrics.conversion(seen.interest, seen.quality)

    return TopOf(rule=rule, action=_form(action))


def quality(action: str = "index") -> builtin.Builtin:
    """The best documents, whoever looks."""
    return TopOf(rule=lambda seen: seen.quality, action=_form(action))


def slateq_topk(mode: str = metrics.WATCH, price: float | None = None, action: str = "index") -> builtin.Builtin:  # noqa: PLR0917
    """Top 3 of click mass times the item's value over clicking nothing: SlateQ's decomposition with a value that is known."""
    values = values_of(mode, price=price)

    def rule(seen: Candidates) -> F64:
        return np.exp(seen.interest) * (values.of_click(seen) + NO_CLICK * values.price)

    return TopOf(rule=rule, action=_form(action))


def values_of(mode: str, *, price: float | None = None) -> Values:
    """The values of a mode at its price, or at another."""
    if mode not in PRICES:
        raise InvalidInput("mode", given=mode, expected=", ".join(PRICES), cure=nearest(mode, list(PRICES)))
    return Values(price=PRICES[mode] if price is None else price, weights=metrics.weights_of(mode, weights=None))


def ratio(*, mode: str, seed: int, episodes: int, config: Mapping[str, Any]) -> tuple[F64, F64]:
    """Returns (episodes,) and mean costs (episodes, 2) of the best slate of 120 by the mode's own values."""
    return _ratio(values_of(mode), mode=mode, seed=seed, episodes=episodes, config=config)


def ratio_watch(*, mode: str, seed: int, episodes: int, config: Mapping[str, Any]) -> tuple[F64, F64]:
    """The same with the values of minutes watched, whatever the mode asks for."""
    return _ratio(values_of(metrics.WATCH), mode=mode, seed=seed, episodes=episodes, config=config)


def played(decide: Callable[[Candidates], I64], *, world: env.Slates, streams: philox.Streams) -> tuple[F64, F64, F64]:
    """First sessions of some users: returns (n,), mean costs (n, 2), steps (n,), with `decide` (n,) of SLATES seeing the state.

    Users whose session is over are dropped, so that the last ones are cheap.
    """
    state, _, _ = world.reset(streams)
    count = len(streams.seed)
    total, spent, length = np.zeros(count), np.zeros((count, len(metrics.COSTS))), np.zeros(count)
    on = np.ones(count, dtype=np.bool_)
    while on.any():
        state, _, reward, cost, ended, cut, _ = world.step(state, decide(seen_of(state)), streams=streams)
        total[on] += reward
        spent[on] += cost
        length[on] += 1.0
        going = ~(ended | cut)
        on[on] = going
        if not going.all():
            state, streams = {name: value[going] for name, value in state.items()}, streams.take(going)
    return total, spent / length[:, None], length


def _ratio(values: Values, *, mode: str, seed: int, episodes: int, config: Mapping[str, Any]) -> tuple[F64, F64]:
    world = env.slates(mode=mode, **{**config, "action": "index"})

    def decide(seen: Candidates) -> I64:
        return best_slate(seen, values=values, rule=world.params.choice)

    total, spent, _ = played(decide, world=world, streams=philox.streams(seed, num_envs=episodes))
    return total, spent


POLICIES: Mapping[str, Callable[..., builtin.Builtin]] = {
    "random": random,
    "myopic_pctr": myopic_pctr,
    "myopic_conversion": myopic_conversion,
    "quality": quality,
    "slateq_topk": slateq_topk,
}
REFERENCES: Mapping[str, Callable[..., tuple[F64, F64]]] = {"ratio_watch": ratio_watch, "ratio": ratio}
REFERENCE = "ratio"
# The modes, minutes watched with the published observability, which hides quality, and with a score for each candidate.
SETTINGS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    **{mode: (mode, {}) for mode in metrics.MODE_NAMES},
    "watch_hidden_quality": (metrics.WATCH, {"observe_quality": False}),
    "watch_scores": (metrics.WATCH, {"action": "scores"}),
    "watch_scores_hidden_quality": (metrics.WATCH, {"action": "scores", "observe_quality": False}),
}


def card(mode: str, *, config: Mapping[str, Any] | None = None) -> Mapping[str, builtin.Builtin]:
    """The policies of the card of one mode, in the action form of the configuration."""
    action = str((config or {}).get("action", "index"))
    return {
        "random": random(action),
        "myopic_pctr": myopic_pctr(action),
        "myopic_conversion": myopic_conversion(action),
        "quality": quality(action),
        "slateq_topk": slateq_topk(mode, action=action),
    }


def _form(action: str) -> str:
    if action not in _ACTIONS:
        raise InvalidInput("action", given=action, expected=", ".join(_ACTIONS), cure=nearest(action, list(_ACTIONS)))
    return action
