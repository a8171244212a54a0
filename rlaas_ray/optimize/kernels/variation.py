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
BLOCK = 32768
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
        np.take(x, first, axis=0, out=born[:matings])
        crossed = rng.random(matings) < self.crossover
        bounds = (self.low, self.high)
        # One number for all variables is the usual case, and saves a look-up for each.
        edges = (self.low[:1], self.high[:1]) if _same(self.low) and _same(self.high) else bounds
        for rows in _blocks(matings, width=d):
            other = x[second[rows]] if each == 1 else born[matings + rows.start : matings + rows.stop]
            if each == 2:
                np.take(x, second[rows], axis=0, out=other)
            sbx(born[rows], other, crossed=crossed[rows], bounds=edges, eta=self.crossover_eta, rng=rng)
        chance = self.per_variable if self.per_variable is not None else min(0.5, 1.0 / d)
        at = positions(born.shape, row=self.mutation, each=chance, rng=rng)
        mutate(born, at, bounds=bounds, eta=self.mutation_eta, rng=rng)
        return born


def _same(bound: F64) -> bool:
    return bool((bound == bound[0]).all())


def _blocks(rows: int, *, width: int) -> Iterator[slice]:
    step = max(1, BLOCK // width)
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def sbx(a: F64, b: F64, *, crossed: Bool, bounds: tuple[F64, F64], eta: float, rng: np.random.Generator) -> None:
    """Parents a, b (k, d), both contiguous, become their children in place.

    Bounds are (d,), or (1,) for all variables. In the rows that `crossed` (k,) marks each variable crosses with chance 1/2.
    One random bit a variable says whether, then one 32-bit draw for each that does: the upper bits are the uniform of the
    spread, the last one says which child is which.
    """
    rows, d = a.shape
    words = rng.bit_generator.random_raw((rows * d + 63) // 64)
    mask = np.unpackbits(words.view(np.uint8), count=rows * d).view(np.bool_).reshape(rows, d)
    mask &= crossed[:, None]
    at = np.flatnonzero(mask)
    draw: U32 = rng.bit_generator.random_raw((len(at) + 1) // 2).view(np.uint32)[: len(at)]
    uniform = draw.astype(np.float32)
    # Rounded to 24 bits: kept below 1, where the spread would be infinite.
    uniform *= np.float32(2.0**-32 * (1.0 - 2.0**-24))
    flat_a, flat_b = a.reshape(-1), b.reshape(-1)
    first, second = flat_a.take(at), flat_b.take(at)
    low, high = (_at(bound, at, rows=rows) for bound in bounds)
    # The lower parent of each pair and the upper one, as two rows.
    ends = np.empty((2, len(at)))
    np.minimum(first, second, out=ends[0])
    np.maximum(first, second, out=ends[1])
    gap = (ends[1] - ends[0]).astype(np.float32)
    half = gap * np.float32(0.5)
    gap += _TINY
    room = np.empty((2, len(at)), dtype=np.float32)
    np.subtract(ends[0], low, out=room[0], casting="same_kind")
    np.subtract(high, ends[1], out=room[1], casting="same_kind")
    with np.errstate(over="ignore", divide="ignore"):
        shift = _inwards(room, gap=gap, uniform=uniform, eta=eta)
    shift *= half
    ends[0] += shift[0]
    ends[1] -= shift[1]
    np.maximum(ends, low, out=ends)
    np.minimum(ends, high, out=ends)
    # Which child is the lower one is a coin's matter; exchanged bit by bit, which no branch slows down.
    draw &= np.uint32(1)
    coin = np.negative(draw.astype(np.int64))
    both = ends.view(np.int64)
    coin &= both[0] ^ both[1]
    both ^= coin
    flat_a[at] = ends[0]
    flat_b[at] = ends[1]


def _at(bound: F64, at: I64, *, rows: int) -> F64:
    """The bound at flat positions of a (rows, d) matrix: itself where it is one number for all variables, (1,)."""
    return bound if len(bound) == 1 else np.tile(bound, rows).take(at)


def _inwards(room: F32, *, gap: F32, uniform: F32, eta: float) -> F32:
    """1 - beta_q (Deb & Agrawal 1995, bounded): room (2, k) to the bound on either side, gap (k,) between the parents."""
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
    at: I64 = np.cumsum(rng.geometric(each, int(mean + 6.0 * mean**0.5 + 10.0))) - 1
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
