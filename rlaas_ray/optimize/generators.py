"""The generator of a search as an array, so that a search can be written down and goes on with the very next draw.

Called by the algorithms. SFC64: its state is six words, and it draws fastest of NumPy's.
"""

from __future__ import annotations

from typing import cast

import numpy as np

from rlaas_ray.specs.arrays import F64, U64, Array


def made(seed: int) -> np.random.Generator:
    """The generator of a seed."""
    return np.random.Generator(np.random.SFC64(seed))


def packed(rng: np.random.Generator) -> U64:
    """(6,) four words of state, whether half a word is left over, and that half."""
    state = rng.bit_generator.state
    return np.array([*state["state"]["state"].tolist(), state["has_uint32"], state["uinteger"]], dtype=np.uint64)


def unpacked(words: Array) -> np.random.Generator:
    """The generator whose next draw is the one that `packed` would have given."""
    bits = np.random.SFC64()
    bits.state = {
        "bit_generator": "SFC64",
        "state": {"state": words[:4].astype(np.uint64)},
        "has_uint32": int(words[4]),
        "uinteger": int(words[5]),
    }
    return np.random.Generator(bits)


def floats(array: Array) -> F64:
    """A copy of its own, so that what was read stays as it was."""
    return cast(F64, array.astype(np.float64))
