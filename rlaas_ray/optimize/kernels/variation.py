"""New rows from old ones: simulated binary crossover (SBX) and polynomial mutation (PM) on real variables.

Called by the algorithms. Same distributions as pymoo 0.6.2 (Deb & Agrawal 1995, Deb & Goyal 1996, both bounded); spreads
are computed in float32, which is finer than any search needs, positions in float64. Never leaves the bounds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from rlaas_ray.specs.arrays import F32, F64, I64, U32, Bool

# Elements of a block of SBX: its dozen float32 temporaries then stay in the second-level cache.
BLOCK = 16384
_TINY = np.float32(1e-30)
_SIGN = np.uint32(0x80000000)


class Variation(Protocol):
    """How rows come to be: drawn afresh, or as children of two parents."""

    def sample(self, rows: int, rng: np.random.Generator) -> F64:
        """(rows, d) drawn at random within the bounds."""
        ...

    def repair(self, x: F64) -> F64:
        """Rows (k, d) brought to the nearest valid ones: a warm start of somebody else's."""
        ...

    def children(self, x: F64, *, first: I64, second: I64, each: int, rng: np.random.Generator) -> F64:
        """`each` (1 or 2) children of every mating x[first], x[second]: (each * matings, d), a block a child."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RealVariation:
    """SBX, then PM. `mutation` is the chance that a row is mutated, `per_variable` that each of its variables then is."""

    low: F64
    high: F64
    crossover: float
    crossover_eta: float
    mutation: float = 0.9
    mutation_eta: float = 20.0
    per_variable: float | None = None  # None: min(0.5, 1 / d)

    def sample(self, rows: int, rng: np.random.Generator) -> F64:
        """Uniform."""
        return self.low + rng.random((rows, len(self.low))) * (self.high - self.low)

    def repair(self, x: F64) -> F64:
        """Clipped."""
        return np.minimum(np.maximum(x, self.low), self.high)

    def children(self, x: F64, *, first: I64, second: I64, each: int, rng: np.random.Generator) -> F64:
        """See Variation."""
        matings, d = len(first), x.shape[1]
        born: F64 = np.empty((each * matings, d))
        crossed = rng.random(matings) < self.crossover
        bounds = (self.low, self.high)
        for rows in _blocks(matings, d):
            out = born[rows], born[matings + rows.start : matings + rows.stop] if each == 2 else None
            a, b = x[first[rows]], x[second[rows]]
            sbx(a, b, crossed=crossed[rows], bounds=bounds, eta=self.crossover_eta, rng=rng, out=out)
        chance = self.per_variable if self.per_variable is not None else min(0.5, 1.0 / d)
        at = positions(born.shape, row=self.mutation, each=chance, rng=rng)
        mutate(born, at, bounds=bounds, eta=self.mutation_eta, rng=rng)
        return born


def _blocks(rows: int, width: int) -> Iterator[slice]:
    step = max(1, BLOCK // width)
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def sbx(
    a: F64,
    b: F64,
    *,
    crossed: Bool,
    bounds: tuple[F64, F64],
    eta: float,
    rng: np.random.Generator,
    out: tuple[F64, F64 | None],
) -> None:
    """Children of the rows a, b (k, d) into `out`; each variable crosses with chance 1/2, in the rows that `crossed` (k,) marks.

    One 32-bit draw a variable: its upper 24 bits are the spread's uniform, two lower ones say whether the variable crosses
    and whether the two children change places.
    """
    low, high = bounds
    rows, d = a.shape
    draw: U32 = rng.integers(0, 1 << 64, size=(rows * d + 1) // 2, dtype=np.uint64).view(np.uint32)[: rows * d]
    draw = draw.reshape(rows, d)
    cross = (draw & 1).astype(np.float32)
    cross *= crossed.astype(np.float32)[:, None]
    swap = cross * ((draw >> 1) & 1).astype(np.float32)
    draw >>= 8
    uniform = draw.astype(np.float32)
    uniform *= np.float32(2.0**-24)
    away = b - a
    gap = np.abs(away).astype(np.float32)
    gap += _TINY
    lower = (np.minimum(a, b) - low).astype(np.float32)
    upper = (high - np.maximum(a, b)).astype(np.float32)
    with np.errstate(over="ignore", divide="ignore"):
        # How far each child stands off its own parent, towards the other one: (1 - spread) * distance / 2.
        e_low = _spread(lower, gap=gap, uniform=uniform, eta=eta)
        e_high = _spread(upper, gap=gap, uniform=uniform, eta=eta)
    forward = (away > 0).astype(np.float32)
    half = away.astype(np.float32)
    half *= np.float32(0.5)
    half *= cross
    # Parent a is the lower one where `forward`: it takes the spread of the lower side there, of the upper one elsewhere.
    e_low -= e_high
    e_a = e_high + forward * e_low
    e_b = e_high + (np.float32(1.0) - forward) * e_low
    e_a *= half
    e_b *= half
    # Where they change places, child a takes the place of child b: b + e_b' - (a + e_a), and the reverse.
    e_b *= np.float32(-1.0)
    move = away + (e_b - e_a)
    move *= swap
    for child, parent, shift in ((out[0], a, e_a + move), (out[1], b, e_b - move)):
        if child is not None:
            np.add(parent, shift, out=child)
            np.maximum(child, low, out=child)
            np.minimum(child, high, out=child)


def _spread(room: F32, *, gap: F32, uniform: F32, eta: float) -> F32:
    """1 - beta_q (Deb & Agrawal 1995, bounded): room (k, d) to the bound on that side, gap (k, d) between the parents."""
    power = np.float32(eta + 1.0)
    room /= gap
    room += room
    room += np.float32(1.0)
    np.log(room, out=room)
    room *= -power
    np.exp(room, out=room)
    np.subtract(np.float32(2.0), room, out=room)
    room *= uniform  # v = u * alpha: the spread is v^(1/power) up to 1 and (2 - v)^(-1/power) beyond
    side = np.float32(1.0) - room
    np.abs(side, out=room)
    np.subtract(np.float32(1.0), room, out=room)
    np.log(room, out=room)
    room *= np.float32(1.0) / power
    bits = side.view(np.uint32)
    bits &= _SIGN
    bits ^= room.view(np.uint32)  # the logarithm is negative; beyond 1 its sign turns
    np.exp(side, out=side)
    np.subtract(np.float32(1.0), side, out=side)
    return side


def positions(shape: tuple[int, ...], *, row: float, each: float, rng: np.random.Generator) -> I64:
    """Flat positions to mutate, ascending: every row with chance `row`, of those every variable with chance `each`.

    Drawn as the gaps between successes (geometric), so that the cost is that of what is mutated and not of the matrix.
    """
    rows, d = shape
    total = rows * d
    mean = total * each
    at: I64 = np.cumsum(rng.geometric(each, int(mean + 6.0 * np.sqrt(mean) + 10.0))) - 1
    while at[-1] < total:
        more = np.cumsum(rng.geometric(each, len(at))) + at[-1]
        at = np.concatenate([at, more])
    at = at[: np.searchsorted(at, total)]
    mutated = rng.random(rows) < row
    return at[mutated[at // d]]


def mutate(x: F64, at: I64, *, bounds: tuple[F64, F64], eta: float, rng: np.random.Generator) -> None:
    """Polynomial mutation (Deb & Goyal 1996, bounded) of x (k, d) in place at flat positions `at`."""
    low, high = bounds
    flat = x.reshape(-1)
    column = at % x.shape[1]
    lows, highs = low[column], high[column]
    span = highs - lows
    old = flat[at]
    u = rng.random(len(at))
    down = u < 0.5
    # Downwards the room is to the lower bound, upwards to the upper one; a variable that is fixed has no span and stays.
    room = np.where(down, old - lows, highs - old) / np.where(span > 0.0, span, 1.0)
    u = np.minimum(u, 1.0 - u)
    u += u
    step = (u + (1.0 - u) * (1.0 - room) ** (eta + 1.0)) ** (1.0 / (eta + 1.0)) - 1.0
    step *= np.where(down, span, -span)
    step += old
    np.maximum(step, lows, out=step)
    flat[at] = np.minimum(step, highs)
