# ruff: noqa: D102 (the protocol says once what each method does)
"""Heads: what the numbers of a distribution mean: how to sample, which action is the mode, how probable an action was.

Called by training parity, serving (`draw`) and evaluation; `train/heads.py` is the same mathematics with gradients.
Proposed actions are before the decoder: an index from 0 for a category, the network's own units for a Gaussian. Never holds
weights or a generator; sums in float64.

`n` rows, `k` parameters, `a` action entries, `m` probabilities.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from gymnasium import spaces as gs

from rlaas_ray.errors import InvalidInput, NotBuilt
from rlaas_ray.policies import spaces
from rlaas_ray.policies.spaces import Space
from rlaas_ray.specs.arrays import F32, F64, I64, Bool

Serving = Literal["sample", "greedy"]
_LOG_2PI = math.log(2.0 * math.pi)
_MOST = 700.0  # exp(709) is the last finite float64
_MASKED = np.float32(-1e30)
LOG_STD_LOW, LOG_STD_HIGH = -5.0, 2.0  # of a squashed Gaussian: RLlib clips alike
_SATURATED = 18.0  # beyond it tanh is 1 in float64, and what was drawn could not be told from the action


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Draw:
    """One draw per row: proposed (n, a), its probability or density (n,), and all probabilities (n, m) where countable."""

    proposed: F64
    propensity: F64
    probabilities: F64 | None


class Head(Protocol):
    """Parameters (n, k) -> distribution over proposed actions (n, a)."""

    @property
    def size(self) -> int:
        """k, the number of parameters."""
        ...

    @property
    def action_size(self) -> int:
        """a, the entries of a proposed action."""
        ...

    def draw(self, params: F32, *, rng: np.random.Generator) -> Draw:
        """Sample and say how probable it was, in one pass."""
        ...

    def sample(self, params: F32, *, rng: np.random.Generator) -> F64:
        """Proposed actions (n, a)."""
        ...

    def mode(self, params: F32) -> F64:
        """The most probable actions (n, a)."""
        ...

    def log_prob(self, params: F32, proposed: F64) -> F64:
        """Log probability (density) (n,) of proposed actions (n, a)."""
        ...

    def probabilities(self, params: F32) -> F64 | None:
        """(n, m) where actions are countable: one block per component, each summing to 1; else None."""
        ...

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Categorical:
    """`n` logits, one index."""

    n: int

    @property
    def size(self) -> int:
        return self.n

    @property
    def action_size(self) -> int:
        return 1

    def draw(self, params: F32, *, rng: np.random.Generator) -> Draw:
        p = _softmax(params)
        index = _inverse_cdf(p, u=rng.random(len(p)))
        return Draw(proposed=index[:, None].astype(np.float64), propensity=_at(p, index), probabilities=p)

    def sample(self, params: F32, *, rng: np.random.Generator) -> F64:
        return self.draw(params, rng=rng).proposed

    def mode(self, params: F32) -> F64:
        return np.asarray(params.argmax(axis=1)[:, None], dtype=np.float64)

    def log_prob(self, params: F32, proposed: F64) -> F64:
        return _at(_log_softmax(params), proposed[:, 0].astype(np.int64))

    def probabilities(self, params: F32) -> F64:
        return _softmax(params)

    def to_json(self) -> dict[str, Any]:
        return {"type": "categorical", "n": self.n}


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiCategorical:
    """Independent categories: blocks of `nvec[i]` logits, one index each; probabilities are the blocks' marginals."""

    nvec: tuple[int, ...]

    @property
    def size(self) -> int:
        return sum(self.nvec)

    @property
    def action_size(self) -> int:
        return len(self.nvec)

    def draw(self, params: F32, *, rng: np.random.Generator) -> Draw:
        u = rng.random((len(params), len(self.nvec)))
        blocks = [_softmax(block) for block in self._blocks(params)]
        proposed, propensity = np.empty(u.shape), np.ones(len(params))
        for i, p in enumerate(blocks):
            index = _inverse_cdf(p, u=u[:, i])
            proposed[:, i] = index
            propensity *= _at(p, index)
        return Draw(proposed=proposed, propensity=propensity, probabilities=np.concatenate(blocks, axis=1))

    def sample(self, params: F32, *, rng: np.random.Generator) -> F64:
        return self.draw(params, rng=rng).proposed

    def mode(self, params: F32) -> F64:
        return np.stack([block.argmax(axis=1) for block in self._blocks(params)], axis=1).astype(np.float64)

    def log_prob(self, params: F32, proposed: F64) -> F64:
        index = proposed.astype(np.int64)
        terms = [_at(_log_softmax(block), index[:, i]) for i, block in enumerate(self._blocks(params))]
        return np.asarray(np.sum(terms, axis=0), dtype=np.float64)

    def probabilities(self, params: F32) -> F64:
        return np.concatenate([_softmax(block) for block in self._blocks(params)], axis=1)

    def to_json(self) -> dict[str, Any]:
        return {"type": "multi_categorical", "nvec": list(self.nvec)}

    def _blocks(self, params: F32) -> list[F32]:
        ends = itertools.accumulate(self.nvec)
        return [params[:, end - n : end] for n, end in zip(self.nvec, ends, strict=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class DiagonalGaussian:
    """mean (a) | log_std (a); the density is of the proposed action, before any decoder."""

    entries: int

    @property
    def size(self) -> int:
        return 2 * self.entries

    @property
    def action_size(self) -> int:
        return self.entries

    def draw(self, params: F32, *, rng: np.random.Generator) -> Draw:
        wide = params.astype(np.float64)
        mean, log_std = wide[:, : self.entries], wide[:, self.entries :]
        noise = rng.standard_normal(mean.shape)
        log_density = -0.5 * np.einsum("na,na->n", noise, noise) - log_std.sum(axis=1) - 0.5 * self.entries * _LOG_2PI
        # In hundreds of entries a density leaves float64's range; infinity or zero would break every ratio made of it.
        log_density = np.minimum(np.maximum(log_density, -_MOST), _MOST)
        return Draw(proposed=mean + np.exp(log_std) * noise, propensity=np.exp(log_density), probabilities=None)

    def sample(self, params: F32, *, rng: np.random.Generator) -> F64:
        return self.draw(params, rng=rng).proposed

    def mode(self, params: F32) -> F64:
        return params[:, : self.entries].astype(np.float64)

    def log_prob(self, params: F32, proposed: F64) -> F64:
        wide = params.astype(np.float64)
        mean, log_std = wide[:, : self.entries], wide[:, self.entries :]
        z = (proposed - mean) * np.exp(-log_std)
        return np.asarray(
            -0.5 * (z * z).sum(axis=1) - log_std.sum(axis=1) - 0.5 * self.entries * _LOG_2PI, dtype=np.float64
        )

    def probabilities(self, params: F32) -> None:
        return None

    def to_json(self) -> dict[str, Any]:
        return {"type": "diagonal_gaussian", "entries": self.entries}


@dataclass(frozen=True, slots=True, kw_only=True)
class SquashedGaussian:
    """mean (a) | log_std (a), both of the state; proposed is tanh(u) in (-1, 1), u Gaussian; the density is that of tanh(u).

    log p = log N(u) - sum log(1 - tanh(u)^2) (Haarnoja et al. 2018a, appendix C). log_std is clipped to [-5, 2]; u to [-18, 18].
    """

    entries: int

    @property
    def size(self) -> int:
        return 2 * self.entries

    @property
    def action_size(self) -> int:
        return self.entries

    def draw(self, params: F32, *, rng: np.random.Generator) -> Draw:
        mean, log_std = self._split(params)
        u = mean + np.exp(log_std) * rng.standard_normal(mean.shape)
        proposed = np.tanh(np.clip(u, -_SATURATED, _SATURATED))
        # Of the action as it is written down: near a bound rounding has moved it, and whoever recomputes must find the same.
        log_density = np.clip(self.log_prob(params, proposed), -_MOST, _MOST)
        return Draw(proposed=proposed, propensity=np.exp(log_density), probabilities=None)

    def sample(self, params: F32, *, rng: np.random.Generator) -> F64:
        return self.draw(params, rng=rng).proposed

    def mode(self, params: F32) -> F64:
        """tanh(mean): what SAC serves greedily. The density's own peak may lie nearer to a bound."""
        mean, _ = self._split(params)
        return np.tanh(np.clip(mean, -_SATURATED, _SATURATED))

    def log_prob(self, params: F32, proposed: F64) -> F64:
        """-inf outside (-1, 1), where no draw lands."""
        mean, log_std = self._split(params)
        inside = np.asarray((np.abs(proposed) < 1.0).all(axis=1))
        u = np.arctanh(np.where(inside[:, None], proposed, 0.0))
        return np.where(inside, self._log_density(u, mean=mean, log_std=log_std), -np.inf)

    def probabilities(self, params: F32) -> None:
        return None

    def to_json(self) -> dict[str, Any]:
        return {"type": "squashed_gaussian", "entries": self.entries}

    def _split(self, params: F32) -> tuple[F64, F64]:
        wide = params.astype(np.float64)
        return wide[:, : self.entries], np.clip(wide[:, self.entries :], LOG_STD_LOW, LOG_STD_HIGH)

    def _log_density(self, u: F64, *, mean: F64, log_std: F64) -> F64:
        z = (u - mean) * np.exp(-log_std)
        size = np.abs(u)
        log_slope = 2.0 * (
            math.log(2.0) - size - np.log1p(np.exp(-2.0 * size))
        )  # log(1 - tanh(u)^2), without cancelling
        terms = 0.5 * z * z + log_std + 0.5 * _LOG_2PI + log_slope
        return np.asarray(-terms.sum(axis=1), dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class QValues:
    """`n` action values, one index: the best allowed one, but with probability `epsilon` any allowed one, uniformly."""

    n: int
    epsilon: float = 0.0

    @property
    def size(self) -> int:
        return self.n

    @property
    def action_size(self) -> int:
        return 1

    def draw(self, params: F32, *, rng: np.random.Generator) -> Draw:
        p = self.probabilities(params)
        index = _inverse_cdf(p, u=rng.random(len(p)))
        return Draw(proposed=index[:, None].astype(np.float64), propensity=_at(p, index), probabilities=p)

    def sample(self, params: F32, *, rng: np.random.Generator) -> F64:
        return self.draw(params, rng=rng).proposed

    def mode(self, params: F32) -> F64:
        return np.asarray(params.argmax(axis=1)[:, None], dtype=np.float64)

    def log_prob(self, params: F32, proposed: F64) -> F64:
        with np.errstate(divide="ignore"):
            return np.log(_at(self.probabilities(params), proposed[:, 0].astype(np.int64)))

    def probabilities(self, params: F32) -> F64:
        """Epsilon / m for each of the m allowed actions, 1 - epsilon more for the best; 0 for those that `masked` forbade."""
        allowed = params > _MASKED / 2
        p = np.where(allowed, self.epsilon / np.maximum(allowed.sum(axis=1, keepdims=True), 1), 0.0)
        p[np.arange(len(p)), params.argmax(axis=1)] += 1.0 - self.epsilon
        return p

    def to_json(self) -> dict[str, Any]:
        return {"type": "q_values", "n": self.n, "epsilon": self.epsilon}


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """The parameters are the action: a deterministic policy. Its propensity is 1, that of any other action 0."""

    entries: int

    @property
    def size(self) -> int:
        return self.entries

    @property
    def action_size(self) -> int:
        return self.entries

    def draw(self, params: F32, *, rng: np.random.Generator) -> Draw:
        return Draw(proposed=params.astype(np.float64), propensity=np.ones(len(params)), probabilities=None)

    def sample(self, params: F32, *, rng: np.random.Generator) -> F64:
        return params.astype(np.float64)

    def mode(self, params: F32) -> F64:
        return params.astype(np.float64)

    def log_prob(self, params: F32, proposed: F64) -> F64:
        return np.where((params.astype(np.float64) == proposed).all(axis=1), 0.0, -np.inf)

    def probabilities(self, params: F32) -> None:
        return None

    def to_json(self) -> dict[str, Any]:
        return {"type": "point", "entries": self.entries}


@dataclass(frozen=True, slots=True, kw_only=True)
class UniformBox:
    """Uniform between finite bounds, whatever is observed: no parameters, params is (n, 0)."""

    low: tuple[float, ...]
    high: tuple[float, ...]

    @property
    def size(self) -> int:
        return 0

    @property
    def action_size(self) -> int:
        return len(self.low)

    def draw(self, params: F32, *, rng: np.random.Generator) -> Draw:
        low, high = np.asarray(self.low), np.asarray(self.high)
        proposed = low + (high - low) * rng.random((len(params), len(low)))
        density = np.full(len(params), math.exp(self._log_density()))
        return Draw(proposed=proposed, propensity=density, probabilities=None)

    def sample(self, params: F32, *, rng: np.random.Generator) -> F64:
        return self.draw(params, rng=rng).proposed

    def mode(self, params: F32) -> F64:
        """The middle: every point is as probable."""
        return np.tile((np.asarray(self.low) + np.asarray(self.high)) / 2, (len(params), 1))

    def log_prob(self, params: F32, proposed: F64) -> F64:
        inside = ((proposed >= np.asarray(self.low)) & (proposed <= np.asarray(self.high))).all(axis=1)
        return np.where(inside, self._log_density(), -np.inf)

    def probabilities(self, params: F32) -> None:
        return None

    def to_json(self) -> dict[str, Any]:
        return {"type": "uniform_box", "low": list(self.low), "high": list(self.high)}

    def _log_density(self) -> float:
        return -sum(math.log(high - low) for low, high in zip(self.low, self.high, strict=True))


def draw(head: Head, params: F32, *, serving: Serving, rng: np.random.Generator) -> Draw:
    """What the policy does: a sample, or (greedy) the mode, which is then a point mass: propensity 1, one-hot probabilities."""
    if serving == "sample":
        return head.draw(params, rng=rng)
    mode = head.mode(params)
    return Draw(proposed=mode, propensity=np.ones(len(mode)), probabilities=_one_hot(head, mode))


def masked(params: F32, mask: Bool) -> F32:
    """Logits with the forbidden ones at -1e30: probability 0 after the softmax. Raises where a row forbids everything."""
    if params.shape != mask.shape:
        raise InvalidInput("action mask", given=mask.shape, expected=f"shape {params.shape}")
    if not mask.any(axis=1).all():
        raise InvalidInput(
            "action mask", given="a row without a single allowed action", expected="one", cure="Mend the env."
        )
    return np.where(mask, params, _MASKED)


def for_action_space(space: Space) -> Head:
    """The head that PPO trains for this action space."""
    match space:
        case gs.Discrete():
            return Categorical(n=int(space.n))
        case gs.MultiDiscrete():
            return MultiCategorical(nvec=tuple(int(n) for n in space.nvec.ravel()))
        case gs.Box() if np.issubdtype(space.dtype, np.floating):
            return DiagonalGaussian(entries=math.prod(space.shape))
    raise NotBuilt(
        "this kind of action space",
        given=space,
        expected="Discrete, MultiDiscrete or a Box of floats",
        cure="Wrap the env.",
    )


def check(head: Head, *, action_space: Space) -> None:
    """Every action that the head can propose is one of the space (after its decoder). Raises InvalidInput."""
    match head, action_space:
        case ((Categorical() | QValues()), gs.Discrete()):
            fits = head.n == int(action_space.n)
        case MultiCategorical(), gs.MultiDiscrete():
            fits = list(head.nvec) == action_space.nvec.ravel().tolist()
        case SquashedGaussian(), gs.Box():
            fits = head.entries == math.prod(action_space.shape) and action_space.is_bounded("both")
        case ((DiagonalGaussian() | UniformBox()), gs.Box()):
            fits = head.action_size == math.prod(action_space.shape)
        case Point(), _:
            fits = head.entries == spaces.action_size(action_space)
        case _:
            fits = False
    if not fits:
        raise InvalidInput("head and action space", given=head.to_json(), expected=f"a head for {action_space}")


def from_json(body: Mapping[str, Any]) -> Head:
    """The head that `to_json` wrote. Raises InvalidInput."""
    fields = {key: value for key, value in body.items() if key != "type"}
    try:
        match body["type"]:
            case "categorical":
                return Categorical(n=_positive(fields.pop("n")), **fields)
            case "multi_categorical":
                return MultiCategorical(nvec=tuple(_positive(n) for n in fields.pop("nvec")), **fields)
            case "diagonal_gaussian":
                return DiagonalGaussian(entries=_positive(fields.pop("entries")), **fields)
            case "squashed_gaussian":
                return SquashedGaussian(entries=_positive(fields.pop("entries")), **fields)
            case "q_values":
                return QValues(n=_positive(fields.pop("n")), epsilon=_share(fields.pop("epsilon")), **fields)
            case "point":
                return Point(entries=_positive(fields.pop("entries")), **fields)
            case "uniform_box":
                low, high = (tuple(float(v) for v in fields.pop(k)) for k in ("low", "high"))
                if len(low) == len(high) and all(a < b for a, b in zip(low, high, strict=True)):
                    return UniformBox(low=low, high=high, **fields)
            case _:
                pass
    except (KeyError, TypeError, ValueError):
        pass  # said below, with what was given
    raise InvalidInput("not a head", given=dict(body), expected="the JSON of a head")


def _positive(value: Any) -> int:
    if not isinstance(value, int) or not 0 < value <= 1_000_000:
        msg = f"{value!r} is not a size"
        raise ValueError(msg)
    return value


def _share(value: Any) -> float:
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        msg = f"{value!r} is not between 0 and 1"
        raise ValueError(msg)
    return float(value)


def _softmax(logits: F32) -> F64:
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True)
    np.exp(wide, out=wide)
    wide /= wide.sum(axis=1, keepdims=True)
    return wide


def _log_softmax(logits: F32) -> F64:
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True)
    return np.asarray(wide - np.log(np.exp(wide).sum(axis=1, keepdims=True)), dtype=np.float64)


def _inverse_cdf(p: F64, *, u: F64) -> I64:
    """First index whose cumulated probability exceeds u (n,) < 1: an index of probability 0 is never taken, not at an end either.

    u * total is below total for every double u <= 1 - 2**-53: the product falls short by half a unit in the last place or more.
    """
    cdf = p.cumsum(axis=1)
    return np.asarray((cdf <= (u * cdf[:, -1])[:, None]).sum(axis=1), dtype=np.int64)


def _at(p: F64, index: I64) -> F64:
    """Entry index[i] of row i: (n,)."""
    return np.asarray(p[np.arange(len(p)), index], dtype=np.float64)


def _one_hot(head: Head, mode: F64) -> F64 | None:
    if isinstance(head, Categorical | QValues):
        sizes: tuple[int, ...] = (head.n,)
    elif isinstance(head, MultiCategorical):
        sizes = head.nvec
    else:
        return None
    out = np.zeros((len(mode), sum(sizes)))
    rows, index, start = np.arange(len(mode)), mode.astype(np.int64), 0
    for i, size in enumerate(sizes):
        out[rows, start + index[:, i]] = 1.0
        start += size
    return out
