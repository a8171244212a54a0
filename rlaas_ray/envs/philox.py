"""Philox4x32-10 (Salmon et al. 2011), vectorised: every random number of every environment, a pure function of key and counter.

Called by the domains' `reset_batch` and `step_batch`. Holds no state, and is not NumPy's `Philox`, which is the 4x64 variant.

Key = (seed, env index), counter = (block, t, purpose, episode); one block is four 32-bit words. A draw depends on nothing but its
key and counter, so an environment gives the same numbers alone and among a thousand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlaas_ray.errors import InvalidInput
from rlaas_ray.specs.arrays import F64, U32, U64

WORDS_PER_BLOCK = 4
_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_LOW, _SHIFT = np.uint64(0xFFFFFFFF), np.uint64(32)
_ROUNDS = 10
_SEEDS = 2**32


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Streams:
    """Who draws: one row per environment. seed, index, episode: U32 (B,)."""

    seed: U32
    index: U32
    episode: U32

    def take(self, rows: slice | np.ndarray) -> Streams:
        """The streams of some rows."""
        return Streams(seed=self.seed[rows], index=self.index[rows], episode=self.episode[rows])

    def words(self, block: U32, *, t: U32, purpose: U32) -> U32:
        """Four words a block: (B, 4 n). block, purpose (n,); t (B,): the counter's time of each environment."""
        counter = (block[None, :], t[:, None], purpose[None, :], self.episode[:, None])
        drawn = philox(counter, key=(self.seed[:, None], self.index[:, None]))
        return drawn.reshape(len(self.seed), -1)


def streams(seed: int | Sequence[int], *, num_envs: int, first_index: int = 0) -> Streams:
    """Fresh streams (episode 0). An int gives (seed, first_index + i), a list gives (seed_i, 0)."""
    if isinstance(seed, (int, np.integer)):
        seeds, index = [int(seed)] * num_envs, list(range(first_index, first_index + num_envs))
    else:
        seeds, index = [int(one) for one in seed], [0] * num_envs
    if len(seeds) != num_envs or any(not 0 <= one < _SEEDS for one in seeds):
        raise InvalidInput(
            "seed of an environment",
            given=seed,
            expected=f"an int from 0 to 2**32 - 1, or {num_envs} of them",
            cure="Give one seed, or one per environment.",
        )
    return Streams(
        seed=np.asarray(seeds, dtype=np.uint32),
        index=np.asarray(index, dtype=np.uint32),
        episode=np.zeros(num_envs, dtype=np.uint32),
    )


def philox(counter: tuple[U32, U32, U32, U32], *, key: tuple[U32, U32]) -> U32:
    """The four output words on a new last axis; counter and key words broadcast against each other."""
    shape = np.broadcast_shapes(*(word.shape for word in (*counter, *key)))

    def flat(word: U32) -> U64:  # one long axis: broadcast short ones cost twice the time
        return np.broadcast_to(word, shape).astype(np.uint64).ravel()

    c0, c1, c2, c3 = (flat(word) for word in counter)
    k0, k1 = (flat(word) for word in key)
    scratch = np.empty_like(c0)
    for _ in range(_ROUNDS):
        c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0=k0, k1=k1, scratch=scratch)
        k0 += _W0
        k0 &= _LOW
        k1 += _W1
        k1 &= _LOW
    out = np.empty((c0.size, WORDS_PER_BLOCK), dtype=np.uint32)
    out[:, 0], out[:, 1], out[:, 2], out[:, 3] = c0, c1, c2, c3
    return out.reshape(*shape, WORDS_PER_BLOCK)


def u01(words: U32) -> F64:
    """Uniform on the open interval (0, 1), one word each."""
    return (words.astype(np.float64) + 0.5) * 2.0**-32


def uniforms(seed: int, *, purpose: int, shape: tuple[int, ...], index: int = 0) -> F64:
    """An array of uniforms of one stream, for tables and drops that are made once."""
    count = int(np.prod(shape))
    blocks = np.arange(-(-count // WORDS_PER_BLOCK), dtype=np.uint32)
    one = streams(seed, num_envs=1, first_index=index)
    words = one.words(blocks, t=np.zeros(1, dtype=np.uint32), purpose=np.full(len(blocks), purpose, dtype=np.uint32))
    return u01(words.ravel()[:count]).reshape(shape)


def normals(uniform: F64) -> F64:
    """Standard normals by Box and Muller from uniforms (..., 2k): same shape."""
    radius = np.sqrt(-2.0 * np.log(uniform[..., 0::2]))
    angle = 2.0 * np.pi * uniform[..., 1::2]
    return np.concatenate((radius * np.cos(angle), radius * np.sin(angle)), axis=-1)


def _round(  # noqa: PLR0917 - four words of one counter
    c0: U64, c1: U64, c2: U64, c3: U64, *, k0: U64, k1: U64, scratch: U64
) -> tuple[U64, U64, U64, U64]:
    p0 = c0 * _M0
    p1 = c2 * _M1
    np.right_shift(p1, _SHIFT, out=scratch)
    c1 ^= scratch
    c1 ^= k0
    np.right_shift(p0, _SHIFT, out=scratch)
    c3 ^= scratch
    c3 ^= k1
    p1 &= _LOW
    p0 &= _LOW
    return c1, p1, c3, p0
