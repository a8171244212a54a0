"""What another policy would have earned, from decisions whose probabilities were logged: importance weighting of one-step rows.

Called by `rlaas ope`. Arrays in, an `Estimate` out, with the reasons where the rows support none. Never reads a log, never draws.
IPW: Horvitz & Thompson 1952; SNIPW: Swaminathan & Joachims 2015; effective sample size: Kish 1965.

`n` rows.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from scipy import special

from rlaas_ray.errors import InvalidInput
from rlaas_ray.evaluation.intervals import Interval
from rlaas_ray.specs.arrays import F64

Support = Literal["ok", "insufficient data", "insufficient overlap"]
Bounds = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """When rows support an estimate; an estimate prints the ones it was judged by."""

    least_rows: int = 100
    least_ess: float = 50.0
    least_ess_fraction: float = 0.01
    most_weight_share: float = 0.1  # of one row in the sum of weights
    most_z: float = 4.0  # of the mean weight against 1, judged from `least_ess` on
    most_unrewarded: float = 0.1  # share of rows whose reward is still unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostics:
    """How far n weighted rows carry."""

    rows: int
    ess: float  # effective sample size
    ess_fraction: float
    max_weight: float
    max_weight_share: float  # of the sum
    mean_weight: float  # 1 where propensities and target fit the log
    mean_weight_z: float  # its distance from 1 in standard errors
    leverage: float  # the largest change of SNIPW that leaving one row out makes


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A target's value from logged rows. `interval` is SNIPW's; `reasons` say why `support` is not ok."""

    ipw: float
    interval: Interval
    interval_kind: str
    logged: Interval  # mean reward as logged, on the same rows
    diagnostics: Diagnostics
    support: Support
    reasons: tuple[str, ...]
    rules: Rules = field(default_factory=Rules)

    @property
    def snipw(self) -> float:
        """The primary estimate."""
        return self.interval.mean

    def to_json(self) -> dict[str, Any]:
        """JSON values; None where a number is not finite."""
        return {
            "snipw": _finite({**self.interval.to_json(), "interval": self.interval_kind}),
            "ipw": _finite({"mean": self.ipw}),
            "logged": _finite(self.logged.to_json()),
            "diagnostics": _finite(asdict(self.diagnostics)),
            "support": self.support,
            "reasons": list(self.reasons),
            "rules": asdict(self.rules),
        }


def estimate(
    reward: F64,
    *,
    propensity: F64,
    target: F64,
    bounds: Bounds | None = None,
    unrewarded: int = 0,
    level: float = 0.95,
    rules: Rules | None = None,
) -> Estimate:
    """The value of a policy that gives the logged actions the probabilities `target` (n,), where the log's gave `propensity`.

    `bounds` are the least and greatest reward there can be; None: 0 and 1 where every reward is one of these, else unknown.
    `unrewarded` rows are still waiting for theirs and are not among the n. Raises InvalidInput for what are no probabilities.
    """
    rules = rules or Rules()
    if reward.shape != propensity.shape or not len(reward) or not np.isfinite(reward).all():
        raise InvalidInput("rewards", given=f"shape {reward.shape}", expected="a finite number for each propensity")
    weight = weights(target, propensity=propensity)
    known = bounds if bounds is not None else _binary(reward)
    if known is not None and not (known[0] < known[1] and known[0] <= reward.min() and reward.max() <= known[1]):
        given = f"{known}, rewards from {reward.min():g} to {reward.max():g}"
        raise InvalidInput("bounds of the reward", given=given, expected="least, greatest, and no reward outside them")
    spread, kind = interval(reward, weight=weight, bounds=known, level=level)
    found = diagnose(reward, weight=weight)
    support, reasons = judge(
        found, width=spread.high - spread.low, propensity=propensity, weight=weight, unrewarded=unrewarded, rules=rules
    )
    return Estimate(
        ipw=ipw(reward, weight=weight),
        interval=spread,
        interval_kind=kind,
        logged=interval(reward, weight=np.ones_like(reward), bounds=known, level=level)[0],
        diagnostics=found,
        support=support,
        reasons=tuple(reasons),
        rules=rules,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What the target earned where it decided itself, and what that says of the estimate."""

    interval: Interval
    note: str


def on_policy(reward: F64, *, estimate: Estimate, bounds: Bounds | None = None) -> Played:
    """The mean of rewards (n,) that the target itself earned, beside its estimate from another policy's rows."""
    known = bounds if bounds is not None else _binary(reward)
    own, _ = interval(reward, weight=np.ones_like(reward), bounds=known, level=estimate.interval.level)
    off = estimate.interval
    if estimate.support != "ok":
        note = (
            f"the rows support no estimate ({estimate.support}): nothing is said of the on-policy mean {own.mean:.4g}"
        )
    elif off.low <= own.mean <= off.high:
        note = f"the interval covers the on-policy mean {own.mean:.4g}"
    elif own.low <= off.high and off.low <= own.high:
        note = f"the on-policy mean {own.mean:.4g} lies outside, but the intervals meet: these rows cannot tell"
    else:
        note = f"the on-policy mean {own.mean:.4g} and the estimate contradict each other: look for a fault in the log"
    return Played(interval=own, note=note)


def notes(found: Estimate) -> list[str]:
    """What a reader might take for granted and should not."""
    told = []
    if found.support == "ok" and found.interval.low <= found.logged.mean <= found.interval.high:
        told.append(
            "the interval holds the mean as logged: these rows cannot tell the target from the policy that acted"
        )
    if found.interval_kind == "delta":
        told.append("the reward's bounds are unknown: where great rewards are rare, the interval is too narrow")
    return told


def weights(target: F64, *, propensity: F64) -> F64:
    """Ratios target / propensity, (n,). Raises InvalidInput for a propensity outside (0, 1] or a target outside [0, 1]."""
    # A hair above 1 is rounding of a float32 softmax.
    for name, values, least in (("propensity", propensity, np.nextafter(0.0, 1.0)), ("target", target, 0.0)):
        right = (values >= least) & (values <= 1.0 + 1e-6)
        if values.shape != propensity.shape or not right.all():
            row = int(np.flatnonzero(~right)[0]) if values.shape == propensity.shape else 0
            raise InvalidInput(
                f"{name} of logged actions",
                given=f"shape {values.shape}; {values.ravel()[row]!s} in row {row}",
                expected=f"probabilities {'above' if least else 'from'} 0, at most 1, of shape {propensity.shape}",
                cure="A log without the probabilities of its decisions cannot be weighed.",
            )
    return np.asarray(target / propensity, dtype=np.float64)


def ipw(reward: F64, *, weight: F64) -> float:
    """mean(w r): unbiased where the logging policy could take whatever the target takes."""
    return float(np.mean(weight * reward))


def snipw(reward: F64, *, weight: F64) -> float:
    """sum(w r) / sum(w): inside the rewards' range, bias of order 1/n. NaN where every weight is 0."""
    scaled = _scaled(weight)
    total = float(scaled.sum())
    return float((scaled * reward).sum()) / total if total > 0 else math.nan


def effective_sample_size(weight: F64) -> float:
    """sum(w)^2 / sum(w^2) (Kish 1965, section 11.7): as many equally weighted rows as spread a mean alike. 0 without weight."""
    scaled = _scaled(weight)
    square = float((scaled * scaled).sum())
    return float(scaled.sum()) ** 2 / square if square > 0 else 0.0


def interval(reward: F64, *, weight: F64, bounds: Bounds | None, level: float = 0.95) -> tuple[Interval, str]:
    """SNIPW with its interval, and which one it is.

    `delta`: normal, on SNIPW's influence values w (r - V) / mean(w). It knows no spread that it has not seen: with rare rewards
    and uneven weights it covers half as often as it says. Where the reward's `bounds` are known, each end is therefore the
    further one of `delta` and `wilson`: the V at which |SNIPW - V| is z standard errors, (V - low)(high - V) / ESS being their
    square: the greatest variance within bounds (Wilson 1927; Bhatia & Davis 2000; ESS for n as in Korn & Graubard 1998).
    """
    value = snipw(reward, weight=weight)
    if math.isnan(value):
        low, high = bounds or (-math.inf, math.inf)
        return Interval(mean=value, low=low, high=high, level=level), "none"
    z = float(special.ndtri((1 + level) / 2))
    n = len(reward)
    scaled = _scaled(weight)
    influence = scaled / scaled.mean() * (reward - value)
    half = z * float(influence.std(ddof=1)) / math.sqrt(n) if n > 1 else math.inf
    if bounds is None:
        return Interval(mean=value, low=value - half, high=value + half, level=level), "delta"
    low, high = _wilson(value, ess=effective_sample_size(weight), bounds=bounds, z=z)
    ends = max(min(low, value - half), bounds[0]), min(max(high, value + half), bounds[1])
    return Interval(mean=value, low=ends[0], high=ends[1], level=level), "wilson and delta"


def diagnose(reward: F64, *, weight: F64) -> Diagnostics:
    """What the weights say of themselves; (n,) each."""
    n, total = len(weight), float(weight.sum())
    ess = effective_sample_size(weight)
    spread = float(weight.std(ddof=1)) / math.sqrt(n) if n > 1 else 0.0
    off = float(weight.mean()) - 1.0
    return Diagnostics(
        rows=n,
        ess=ess,
        ess_fraction=ess / n,
        max_weight=float(weight.max()),
        max_weight_share=float(weight.max()) / total if total > 0 else 1.0,
        mean_weight=1.0 + off,
        mean_weight_z=off / spread if spread > 0 else 0.0 if abs(off) < 1e-9 else math.copysign(math.inf, off),
        leverage=_leverage(reward, weight=weight),
    )


def judge(
    found: Diagnostics, *, width: float, propensity: F64, weight: F64, unrewarded: int, rules: Rules
) -> tuple[Support, list[str]]:
    """Whether the rows support the estimate, and every reason why not: first what no more rows of this kind would mend."""
    n, ess = found.rows, found.ess
    overlap = {
        f"effective sample size {ess:.3g} of {n:,} rows, below {rules.least_ess_fraction:.0%} of them": (
            found.ess_fraction < rules.least_ess_fraction
        ),
        f"one row holds {found.max_weight_share:.0%} of all weight, above {rules.most_weight_share:.0%}": (
            found.max_weight_share > rules.most_weight_share
        ),
        f"leaving one row out moves the estimate by {found.leverage:.3g}, over half of its interval": (
            found.leverage > width / 2
        ),
        f"mean weight {found.mean_weight:.4g} is {abs(found.mean_weight_z):.3g} standard errors from 1: the log's "
        "probabilities or the target are not what they are said to be, or actions of the target were never taken": (
            abs(found.mean_weight_z) > rules.most_z and ess >= rules.least_ess
        ),
        "the logging policy was deterministic and the target acts otherwise": bool(
            (propensity >= 1.0).all() and (weight != 1.0).any()
        ),
    }
    share = unrewarded / (n + unrewarded)
    data = {
        f"{n:,} rows, below {rules.least_rows}": n < rules.least_rows,
        f"effective sample size {ess:.3g}, below {rules.least_ess:g}{_more(n, ess=ess, wanted=rules.least_ess)}": (
            ess < rules.least_ess
        ),
        f"{share:.0%} of the rows have no reward yet, above {rules.most_unrewarded:.0%}": share > rules.most_unrewarded,
    }
    reasons = [reason for reason, true in (overlap | data).items() if true]
    if any(overlap.values()):
        return "insufficient overlap", reasons
    return ("insufficient data" if any(data.values()) else "ok"), reasons


def _scaled(weight: F64) -> F64:
    """The weights over the largest: ratios of sums stay the same, squares leave no range."""
    most = float(weight.max(initial=0.0))
    return weight / most if most > 0 else weight


def _more(n: int, *, ess: float, wanted: float) -> str:
    return f" (about {math.ceil(n * wanted / ess):,} rows would do, were their weights alike)" if ess > 0 else ""


def _leverage(reward: F64, *, weight: F64) -> float:
    scaled = _scaled(weight)
    total = float(scaled.sum())
    if total <= 0:
        return math.inf
    value = snipw(reward, weight=weight)
    rest = total - scaled
    change = np.abs(scaled * (reward - value))
    moved = np.divide(change, rest, out=np.where(change > 0, np.inf, 0.0), where=rest > 1e-12 * total)
    return float(moved.max())


def _wilson(value: float, *, ess: float, bounds: Bounds, z: float) -> Bounds:
    low, high = bounds
    p = min(max((value - low) / (high - low), 0.0), 1.0)
    spread = z * math.sqrt(p * (1.0 - p) / ess + (z / (2.0 * ess)) ** 2)
    middle, scale = p + z * z / (2.0 * ess), 1.0 + z * z / ess
    return low + (high - low) * (middle - spread) / scale, low + (high - low) * (middle + spread) / scale


def _binary(reward: F64) -> Bounds | None:
    return (0.0, 1.0) if bool(((reward == 0.0) | (reward == 1.0)).all()) else None


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
