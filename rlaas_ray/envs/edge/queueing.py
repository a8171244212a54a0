"""M/M/c queues (Erlang 1917): waiting probability, mean sojourn, and its exact tail, elementwise over arrays.

Called by model.py and by tests. `servers` c are whole numbers as float64, `offered` a = lambda/mu < c; no pods: all nought.
"""

from __future__ import annotations

import numpy as np

from rlaas_ray.specs.arrays import F64

_NOUGHT = 1e-12  # erlangs: 1/B stays finite
_NEAR = 1e-6  # |c - 1 - a| is at least so much: the tail's fraction divides by it


def erlang_c(servers: F64, offered: F64) -> F64:
    """The probability that a request waits: B_0 = 1, B_k = a B/(k + a B), C = c B/(c - a (1 - B)).

    Computed as 1/B_k = 1 + (k/a)/B_{k-1}, which needs no division.
    """
    share = 1.0 / np.maximum(offered, _NOUGHT)
    inverse, kept = np.ones_like(offered), np.ones_like(offered)
    for k in range(1, int(servers.max(initial=0.0)) + 1):
        inverse *= share
        inverse *= float(k)
        inverse += 1.0
        np.copyto(kept, inverse, where=servers == k)
    kept = 1.0 / kept
    free = servers - offered * (1.0 - kept)
    # c = 0 gives 0/0; such a pod serves nothing
    return np.asarray(servers * kept / np.where(free > 0.0, free, 1.0))


def sojourn_s(servers: F64, offered: F64, *, waits: F64, rate: F64) -> F64:
    """Mean seconds in the queue and in service, W = C/(c mu - lambda) + 1/mu; `rate` mu in 1/s."""
    room = servers - offered
    return np.asarray((waits / np.where(room > 0.0, room, 1.0) + 1.0) / rate)


def tail(servers: F64, offered: F64, *, waits: F64, scaled: F64, decay: F64) -> F64:
    """P(T > x): e^{-mu x} (1 + C (1 - e^{-mu x k})/k), k = c - 1 - a. `scaled` is mu x >= 0, `decay` e^{-mu x}.

    At k = 0 the fraction's limit is mu x; so near to it k counts as the nearest number that is not too small.
    """
    gap = servers - 1.0 - offered
    gap = np.where(np.abs(gap) < _NEAR, _NEAR, gap)
    found = scaled * -gap
    np.exp(found, out=found)
    np.subtract(1.0, found, out=found)
    found *= waits / gap
    found += 1.0
    found *= decay
    return found
