"""The parity certificate: how far the engines of one network are apart, and the gate that refuses to serve when too far.

Made when a bundle is written (numpy, onnx and torch; loads torch then), read when it is loaded. Engines with a memory are
compared over sequences, each going on from its own state. Pure apart from running engines.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlaas_ray.errors import InvalidInput, Refused
from rlaas_ray.policies import heads
from rlaas_ray.policies.engines import choice
from rlaas_ray.policies.network import Network
from rlaas_ray.specs.arrays import F32, F64, I64
from rlaas_ray.specs.seams import Recurrent

GATE = 1e-5  # of max|y|: float32 sums of a few hundred terms in another order differ by about 1e-6
SEQUENCE = 16  # steps from the start of an episode, for policies with a memory
_FLOOR = 1e-2  # a network whose outputs are all near zero is compared absolutely
_GAP = 1e-4  # logits nearer than this may swap their order; nobody can tell such actions apart


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two engines on the same observations. `argmax_agreement` of the `compared` blocks whose best two logits are apart."""

    engines: tuple[str, str]
    max_abs: float
    mean_abs: float
    relative: float
    argmax_agreement: float | None
    compared: int

    @property
    def passed(self) -> bool:
        """Within the gate, and the same best action wherever there is one."""
        return self.relative <= GATE and self.argmax_agreement in {None, 1.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What `certificate.json` holds."""

    n: int
    seed: int
    pairs: tuple[Pair, ...]

    @property
    def engines(self) -> tuple[str, ...]:
        """Engines all of whose pairs passed."""
        names = dict.fromkeys(name for pair in self.pairs for name in pair.engines)
        return tuple(name for name in names if all(pair.passed for pair in self.pairs if name in pair.engines))

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        pairs = [
            {
                "engines": list(p.engines),
                "max_abs": p.max_abs,
                "mean_abs": p.mean_abs,
                "relative": p.relative,
                "argmax_agreement": p.argmax_agreement,
                "compared": p.compared,
                "passed": p.passed,
            }
            for p in self.pairs
        ]
        return {"n": self.n, "seed": self.seed, "gate": GATE, "engines": list(self.engines), "pairs": pairs}


def certify(network: Network, *, model: bytes, observations: F32, head: heads.Head, seed: int) -> Certificate:
    """The certificate of numpy, onnx and torch on `observations` (n, d). Raises Refused when a pair is outside the gate.

    With a memory every SEQUENCE of consecutive observations is one episode.
    """
    engines = {name: choice.make(name, network=network, model=model) for name in choice.NAMES}
    if network.memory is None:
        outputs = {name: engine.distribution(observations) for name, engine in engines.items()}
    else:
        size = network.state_size
        outputs = {name: sequences(engine, observations, state_size=size)[1] for name, engine in engines.items()}
    return compare(outputs, head=head, seed=seed)


def sequences(engine: Recurrent, observations: F32, *, state_size: int) -> tuple[F32, F32, F32]:
    """States before (n, s), parameters (n, k), states after (n, s) of observations (n, d), each SEQUENCE of them an episode."""
    count = -(-len(observations) // SEQUENCE)
    padded = np.resize(observations, (count * SEQUENCE, observations.shape[1])).reshape(count, SEQUENCE, -1)
    states = np.zeros((SEQUENCE + 1, count, state_size), dtype=np.float32)
    given: list[F32] = []
    for t in range(SEQUENCE):
        distribution, states[t + 1] = engine.step(np.ascontiguousarray(padded[:, t]), states[t])
        given.append(distribution)

    def rows(array: F32) -> F32:
        """(T, sequences, x) -> (n, x), in the order of the observations."""
        flat = np.ascontiguousarray(array.swapaxes(0, 1)).reshape(count * SEQUENCE, -1)
        return flat[: len(observations)]

    return rows(states[:-1]), rows(np.stack(given)), rows(states[1:])


def compare(outputs: Mapping[str, F32], *, head: heads.Head, seed: int) -> Certificate:
    """The certificate of these outputs (n, k) by engine. Raises Refused when a pair is outside the gate."""
    pairs = tuple(_pair(a, b, outputs=outputs, head=head) for a, b in itertools.combinations(outputs, 2))
    n = len(next(iter(outputs.values())))
    certificate = Certificate(n=n, seed=seed, pairs=pairs)
    failed = [pair for pair in pairs if not pair.passed]
    if failed:
        worst = max(failed, key=lambda pair: pair.relative)
        raise Refused(
            f"engines {' and '.join(worst.engines)} disagree",
            given=f"{worst.relative:.2e} of max|y|, argmax agreement {worst.argmax_agreement}",
            expected=f"at most {GATE:g}, argmax agreement 1",
            cure="Look for huge weights or unnormalised observations; a policy whose engines disagree cannot be served.",
        )
    return certificate


def from_json(body: Mapping[str, Any]) -> Certificate:
    """The certificate of `to_json`. Raises InvalidInput. Whether it passed is computed again, not believed."""
    try:
        pairs = tuple(
            Pair(
                engines=(str(p["engines"][0]), str(p["engines"][1])),
                max_abs=float(p["max_abs"]),
                mean_abs=float(p["mean_abs"]),
                relative=float(p["relative"]),
                argmax_agreement=None if p["argmax_agreement"] is None else float(p["argmax_agreement"]),
                compared=int(p["compared"]),
            )
            for p in body["pairs"]
        )
        return Certificate(n=int(body["n"]), seed=int(body["seed"]), pairs=pairs)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise InvalidInput("not a certificate", given=str(error), expected="the certificate.json of a bundle") from None


def close(given: F32, *, expected: F32) -> bool:
    """Whether two outputs (n, k) are within the gate."""
    return given.shape == expected.shape and _relative(given, expected) <= GATE


def _pair(a: str, b: str, *, outputs: Mapping[str, F32], head: heads.Head) -> Pair:
    first, second = outputs[a], outputs[b]
    if first.shape != second.shape:
        raise Refused(
            f"engines {a} and {b} disagree", given=f"shapes {first.shape}, {second.shape}", expected="one shape"
        )
    difference = np.abs(first.astype(np.float64) - second.astype(np.float64))
    agreed, compared = _argmax(first, second, head=head)
    return Pair(
        engines=(a, b),
        max_abs=float(difference.max(initial=0.0)),
        mean_abs=float(difference.mean()) if difference.size else 0.0,
        relative=_relative(first, second),
        argmax_agreement=agreed / compared if compared else None,
        compared=compared,
    )


def _relative(a: F32, b: F32) -> float:
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("inf")
    x, y = a.astype(np.float64), b.astype(np.float64)
    scale = max(float(np.abs(x).max(initial=0.0)), float(np.abs(y).max(initial=0.0)), _FLOOR)
    return float(np.abs(x - y).max(initial=0.0)) / scale


def _argmax(a: F32, b: F32, *, head: heads.Head) -> tuple[int, int]:
    """Blocks of logits with the same best index, of those whose best two are more than the gap apart."""
    sizes: tuple[int, ...]
    gap = _GAP
    if isinstance(head, heads.QValues):  # values have units of reward: what is close depends on how large they are
        sizes, gap = (head.n,), _GAP * max(1.0, float(np.abs(a).max(initial=0.0)))
    elif isinstance(head, heads.Categorical):
        sizes = (head.n,)
    elif isinstance(head, heads.MultiCategorical):
        sizes = head.nvec
    else:
        return 0, 0
    agreed = compared = 0
    for x, y in zip(*(np.split(part, np.cumsum(sizes)[:-1], axis=1) for part in (a, b)), strict=True):
        if x.shape[1] < 2:
            continue
        clear = _gap(x.astype(np.float64)) > gap
        same: I64 = np.argmax(x, axis=1) - np.argmax(y, axis=1)
        compared += int(clear.sum())
        agreed += int((clear & (same == 0)).sum())
    return agreed, compared


def _gap(logits: F64) -> F64:
    best = np.partition(logits, -2, axis=1)
    return np.asarray(best[:, -1] - best[:, -2], dtype=np.float64)
