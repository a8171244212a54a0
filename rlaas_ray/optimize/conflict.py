"""Several parties, one option: which to take when tenants, agents or objectives want different ones, and why in words.

Called by choosing.py with utilities from a front, and by users with their own. Pure. It never picks an option below
somebody's floor: where none meets them all it says which floors to relax, and by how much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from rlaas_ray.errors import InvalidInput, nearest
from rlaas_ray.optimize import measures
from rlaas_ray.optimize.choice import listed, quantity
from rlaas_ray.specs.arrays import F64, I64
from rlaas_ray.specs.choose import Rule

RULES: tuple[Rule, ...] = get_args(Rule)
TIE = 1e-12
NEAR = 0.98  # alternatives: at least so much of the best score


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Demand:
    """A hard demand: no option with `level` (n,) below `floor`. Levels of all demands have one scale, so that misses add up.

    `shown` (n,) and `limit` say the same in `unit`, for words.
    """

    name: str
    level: F64
    floor: float
    shown: F64
    limit: float
    unit: str = "1"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Resolution:
    """What was resolved. `index` is None where no option meets every floor; then `relax` says what would make one.

    utility (p, n): 0 a party's disagreement, 1 its best. score (n,) by `used`, -inf below a floor. used: the rule, or
    maximin where nash finds nothing that is better than disagreement for all. regret (p,): 1 - utility of the choice.
    by_rule: what each rule would take. relax: demand -> (as it is, as `relaxed_index` meets it), in the demand's unit.
    """

    index: int | None
    rule: Rule
    used: Rule
    utility: F64
    score: F64
    regret: F64
    alternatives: I64
    by_rule: dict[Rule, int]
    relax: dict[str, tuple[float, float]]
    relaxed_index: int | None
    reason: str


def scaled(value: F64, *, disagreement: F64 | None = None) -> F64:
    """Utilities from any values (p, n), larger better: 0 at a party's disagreement (p,), 1 at its best.

    By default the disagreement is its worst option. A party to whom all options are the same has 1 everywhere.
    """
    low = value.min(axis=1) if disagreement is None else disagreement
    width = value.max(axis=1) - low
    found = (value - low[:, None]) / np.where(width > 0, width, 1.0)[:, None]
    return np.where(width[:, None] > 0, found, 1.0)


def resolve(
    utility: F64,
    *,
    rule: Rule = "nash",
    weights: F64 | None = None,
    floors: F64 | None = None,
    disagreement: F64 | None = None,
    parties: Sequence[str] | None = None,
    demands: Sequence[Demand] = (),
    options: I64 | None = None,
) -> Resolution:
    """One option for all parties. utility (p, n) float64, at most 1; weights, floors, disagreement (p,); further demands.

    parties, options (n,): names and numbers for the reason.

    nash: the largest product of (utility - disagreement)^weight (Nash 1950). weighted: the largest sum. maximin: the worst-off
    party first, then the next (lexicographic, Rawls). topsis: the parties as criteria. veto: the floors alone decide; of
    what is left the largest sum. Weights are scaled to mean 1; maximin takes none. Ties: the larger sum, then the lower
    index. Raises InvalidInput.
    """
    weight, floor, least = _checked(utility, rule=rule, weights=weights, floors=floors, disagreement=disagreement)
    named = list(parties) if parties is not None else [f"party {i + 1}" for i in range(len(utility))]
    called = np.arange(utility.shape[1]) if options is None else options
    asked = [*_floors(utility, floor, names=named), *demands]
    short = np.stack([np.maximum(one.floor - one.level, 0.0) for one in asked] or [np.zeros(utility.shape[1])])
    open_ = (short <= TIE).all(axis=0)
    if not open_.any():
        return _closed(utility, short, rule=rule, asked=asked, called=called)
    kept = np.flatnonzero(open_)
    rows, total = utility[:, kept], weight @ utility[:, kept]
    ranks = {name: _rank(name, rows, weight=weight, least=least) for name in RULES}
    used = rule
    if not np.isfinite(ranks["nash"]).any():
        # Every option leaves somebody at disagreement: all products are 0 and say nothing.
        ranks["nash"], used = ranks["maximin"], "maximin" if rule == "nash" else rule
    takes: dict[Rule, int] = {
        name: int(kept[_best(rank, total=total, rows=rows if rank is ranks["maximin"] else None)])
        for name, rank in ranks.items()
    }
    index, rank = takes[rule], np.full(utility.shape[1], -np.inf)
    rank[kept] = ranks[rule]
    score = np.where(open_, np.exp(rank), -np.inf) if used == "nash" else rank
    enough = rank[index] + np.log(NEAR) if used == "nash" else rank[index] - (1 - NEAR) * abs(rank[index])
    near = np.flatnonzero((rank >= enough) & (np.arange(len(rank)) != index))
    return Resolution(
        index=index,
        rule=rule,
        used=used,
        utility=utility,
        score=score,
        regret=1.0 - utility[:, index],
        alternatives=near,
        by_rule=takes,
        relax={},
        relaxed_index=None,
        reason=_reason(utility, takes, rule=rule, used=used, called=called, barred=int((~open_).sum()), names=named),
    )


def _rank(rule: Rule, rows: F64, *, weight: F64, least: F64) -> F64:
    """What a rule ranks by (n,), larger is better; of nash the logarithm of the product."""
    if rule == "nash":
        gain = np.maximum(rows - least[:, None], 0.0)
        counts = weight > 0
        with np.errstate(divide="ignore"):
            return np.asarray(weight[counts] @ np.log(gain[counts]))
    if rule == "maximin":
        return np.asarray(rows.min(axis=0))
    if rule == "topsis":
        within = measures.frame(rows.T, minimise=np.zeros(len(rows), dtype=np.bool_))
        return np.asarray(measures.closeness(rows.T, within=within).score((weight / weight.sum())[None])[0])
    return np.asarray(weight @ rows) if rule == "weighted" else np.ones(rows.shape[1])


def _best(rank: F64, *, total: F64, rows: F64 | None) -> int:
    """The best row; ties by the next worst-off where `rows` are given, then by the larger total, then by the index."""
    tied = np.flatnonzero(rank >= rank.max() - TIE)
    if rows is not None and len(tied) > 1:
        ordered = np.sort(rows[:, tied], axis=0)
        for place in range(1, len(rows)):
            keep = ordered[place] >= ordered[place].max() - TIE
            tied, ordered = tied[keep], ordered[:, keep]
    return int(tied[np.argmax(total[tied] >= total[tied].max() - TIE)])


def _floors(utility: F64, floor: F64, *, names: Sequence[str]) -> list[Demand]:
    """The parties' floors of utility, as demands."""
    return [
        Demand(name=f"floor of {names[p]}", level=utility[p], floor=low, shown=utility[p], limit=low)
        for p, low in enumerate(floor.tolist())
        if low > -np.inf
    ]


def _closed(utility: F64, short: F64, *, rule: Rule, asked: Sequence[Demand], called: I64) -> Resolution:
    """No option meets every demand: the one that misses least in all, of those the one that misses fewest."""
    total = short.sum(axis=0)
    tied = np.flatnonzero(total <= total.min() + TIE)
    option = int(tied[np.argmin((short[:, tied] > TIE).sum(axis=0))])
    missed = [one for one, by in zip(asked, short[:, option].tolist(), strict=True) if by > TIE]
    relax = {one.name: (one.limit, float(one.shown[option])) for one in missed}
    told = [
        f"the {one.name} from {quantity(one.limit, one.unit)} to {quantity(float(one.shown[option]), one.unit)}"
        for one in missed
    ]
    return Resolution(
        index=None,
        rule=rule,
        used=rule,
        utility=utility,
        score=np.full(utility.shape[1], -np.inf),
        regret=np.full(len(utility), np.nan),
        alternatives=np.empty(0, dtype=np.int64),
        by_rule={},
        relax=relax,
        relaxed_index=option,
        reason=f"No point meets every demand. The least that must give way is {listed(told)}: then point {called[option]} does.",
    )


def _reason(
    utility: F64, takes: dict[Rule, int], *, rule: Rule, used: Rule, called: I64, barred: int, names: Sequence[str]
) -> str:
    index, plain = takes[rule], takes["weighted"]
    words = [f"Point {called[index]} by {used}: {_levels(utility[:, index], names)} of what is best for each."]
    if used != rule:
        words.append("Every point leaves somebody at disagreement, so nash says nothing and the worst-off decides.")
    if barred:
        words.append(f"{barred} of {utility.shape[1]} points are below somebody's floor.")
    if plain != index:
        words.append(
            f"The sum alone takes point {called[plain]} ({_levels(utility[:, plain], names)}); {used} changed the choice."
        )
    others = [f"{name} takes point {called[row]}" for name, row in takes.items() if row != index and name != "weighted"]
    if others:
        words.append(f"{', '.join(others)}.")
    elif plain == index:
        words.append("Every rule takes it.")
    return " ".join(words)


def _levels(level: F64, names: Sequence[str]) -> str:
    """Each party's utility, or of the worst off where there are many."""
    order = np.argsort(level, kind="stable")[:3] if len(level) > 4 else np.arange(len(level))
    told = ", ".join(f"{names[party]} {level[party]:.4g}" for party in order)
    return f"worst off {told}" if len(level) > 4 else told


def _checked(
    utility: F64, *, rule: str, weights: F64 | None, floors: F64 | None, disagreement: F64 | None
) -> tuple[F64, F64, F64]:
    if utility.ndim != 2 or 0 in utility.shape or utility.dtype != np.float64 or not np.isfinite(utility).all():
        raise InvalidInput(
            "utility of parties",
            given=(utility.shape, str(utility.dtype)),
            expected="(parties, options) float64, finite, at least one of each",
        )
    if rule not in RULES:
        raise InvalidInput("rule of a conflict", given=rule, expected=", ".join(RULES), cure=nearest(rule, list(RULES)))
    if utility.max() > 1 + TIE:
        raise InvalidInput(
            "utility of parties", given=float(utility.max()), expected="at most 1, a party's best", cure="Use `scaled`."
        )
    size = len(utility)
    found = []
    for name, value, absent in (
        ("weights", weights, 1.0),
        ("floors", floors, -np.inf),
        ("disagreement", disagreement, 0.0),
    ):
        row = np.full(size, absent) if value is None else np.asarray(value, dtype=np.float64)
        if row.shape != (size,) or np.isnan(row).any() or (name == "weights" and not _are_weights(row)):
            raise InvalidInput(f"{name} of parties", given=row.tolist(), expected=_EXPECTED[name].format(size))
        found.append(row)
    weight, floor, least = found
    return weight * (size / weight.sum()), floor, least


_EXPECTED = {
    "weights": "{} numbers >= 0 with a positive sum",
    "floors": "{} utilities, -inf for none",
    "disagreement": "{} utilities",
}


def _are_weights(row: F64) -> bool:
    return bool(np.isfinite(row).all() and (row >= 0).all() and row.sum() > 0)
