"""DS2, the scaling rule of Kalavri et al. (OSDI 2018): every operator's parallelism at once, from true rates.

Called by the baselines of the stream environment and by whoever scales a dataflow. Holds no state and draws nothing; when to act
(outside of restarts, an interval after a change) is the caller's business.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlaas_ray.errors import InvalidInput
from rlaas_ray.specs.arrays import F64, I64, Bool

ROUNDING = 1e-9  # a count this little above a whole number is that number


def order(edges: Sequence[tuple[int, int]], *, operators: int) -> tuple[int, ...]:
    """Operators so that each follows its inputs, the lowest index first among equals. Raises InvalidInput for a cycle."""
    waiting = [sum(1 for _, target in edges if target == one) for one in range(operators)]
    found: list[int] = []
    while len(found) < operators:
        free = [one for one in range(operators) if waiting[one] == 0]
        if not free:
            raise InvalidInput(
                "edges of the dataflow",
                given=sorted(one for one in range(operators) if waiting[one] > 0),
                expected="no cycle among these operators",
                cure="Remove an edge that leads back.",
            )
        found.append(free[0])
        waiting[free[0]] = -1
        for source, target in edges:
            if source == free[0]:
                waiting[target] -= 1
    return tuple(found)


def parallelism(
    *,
    edges: Sequence[tuple[int, int]],
    offered: F64,
    processed: F64,
    output: F64,
    instances: F64 | I64,
    factor: float = 0.0,
    threshold: float = np.inf,
    observed: F64 | None = None,
) -> I64:
    """The rule on a batch. n operators, e edges; records/s; gives (B, n) int64, sources as they were.

    `offered` (B, n) is what each source is to give (read for operators without inputs). `processed` (B, n) and `output` (B, e)
    are true rates: records over useful time, summed over instances. Operator o with target input T_o gets
    ceil(T_o / (processed_o / instances_o) * (1 + factor)); its outputs are scaled by the unrounded count over `instances`.
    Where `processed` is not positive nothing is known, and the count stays. `threshold`: where no operator is scaled up and a
    source's offered / `observed` (B, n) is above it, all counts are multiplied by that ratio (the repository's last adjustment).
    """
    batch, operators = processed.shape
    _check(edges, shapes=(offered.shape, output.shape, instances.shape), batch=batch, operators=operators)
    count = _counts(edges, offered=offered, processed=processed, output=output, instances=instances.astype(np.float64))
    fed = [any(to == one for _, to in edges) for one in range(operators)]
    wanted = np.ceil(count * (1.0 + factor) - ROUNDING)
    known = np.isfinite(count) & np.asarray(fed)
    found = np.where(known, np.maximum(wanted, 0.0), instances)
    if observed is not None and np.isfinite(threshold):
        ratio = _ratio(offered, observed=observed, sources=~np.asarray(fed))
        adjusted = (ratio > threshold) & (found <= instances).all(axis=1)
        found = np.where(adjusted[:, None] & known, np.ceil(ratio[:, None] * found - ROUNDING), found)
    return found.astype(np.int64)


def _counts(edges: Sequence[tuple[int, int]], *, offered: F64, processed: F64, output: F64, instances: F64) -> F64:
    """Unrounded counts (B, n), NaN of sources and where nothing is known."""
    batch, operators = processed.shape
    target, count = np.zeros((batch, operators)), np.full((batch, operators), np.nan)
    for one in order(edges, operators=operators):
        ways = [number for number, (source, _) in enumerate(edges) if source == one]
        if not any(to == one for _, to in edges):
            target[:, one] = offered[:, one]
            scale = np.divide(offered[:, one], processed[:, one], out=np.ones(batch), where=processed[:, one] > 0)
        else:
            rate = processed[:, one] / np.maximum(instances[:, one], 1.0)
            count[:, one] = np.divide(target[:, one], rate, out=np.full(batch, np.nan), where=rate > 0)
            scale = np.where(np.isfinite(count[:, one]), count[:, one] / np.maximum(instances[:, one], 1.0), 1.0)
        for way in ways:
            target[:, edges[way][1]] += output[:, way] * scale
    return count


def _ratio(offered: F64, *, observed: F64, sources: Bool) -> F64:
    """(B,) the largest offered / observed of the sources."""
    each = np.divide(offered, observed, out=np.ones_like(offered), where=(observed > 0) & sources)
    found: F64 = each.max(axis=1)
    return found


def _check(
    edges: Sequence[tuple[int, int]], *, shapes: tuple[tuple[int, ...], ...], batch: int, operators: int
) -> None:
    wanted = ((batch, operators), (batch, len(edges)), (batch, operators))
    if shapes != wanted:
        raise InvalidInput("rates of the dataflow", given=shapes, expected=f"offered, output, instances as {wanted}")
    if any(not 0 <= end < operators for edge in edges for end in edge):
        raise InvalidInput("edges of the dataflow", given=list(edges), expected=f"pairs of indices below {operators}")
