"""Candidate schemes: what is worth trying for a dataflow. By rule and chance (the default), or asked of a language model.

Called by agent.py. A generator proposes and never chooses. Contract: exactly k rows, all counts in 1..P, fixed operators as they
are, rows distinct where there are k schemes, the scheme in force and the DS2 scheme among them. A model is a seams.ChatModel
that is handed in; this module knows no network.

`B` dataflows, `k` schemes, `n` operators.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from rlaas_ray.errors import InvalidInput, Unavailable
from rlaas_ray.policies.lastream import prompt
from rlaas_ray.policies.lastream.operators import Operators
from rlaas_ray.specs.arrays import F64, I64, Array, Bool
from rlaas_ray.specs.seams import ChatModel, Clock

RECENT = 8  # pairs of scheme and reward that a generator is told
SCALES = (0.8, 1.2, 1.5)
SPREAD = 0.3  # of the lognormal draws
_DRAWS, _ROUNDS = 16, 8
DEADLINE_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Context:
    """One dataflow (a batch of one), and the schemes that it had lately with what they earned, oldest first."""

    operators: Operators
    recent: Sequence[tuple[tuple[int, ...], float]] = ()


class Generator(Protocol):
    """Who proposes. `fallback_reason`: why the last proposal is not its own; None where it is."""

    @property
    def name(self) -> str:
        """What `action_info` says."""
        ...

    @property
    def fallback_reason(self) -> str | None:
        """Of the last proposal."""
        ...

    def propose(self, context: Context, k: int, *, rng: np.random.Generator) -> I64:
        """(k, n) schemes that keep the contract."""
        ...


class OfflineGenerator:
    """DS2, DS2 scaled, the scheme in force and its neighbours, splits by load, then draws around DS2. Needs nobody."""

    name = "offline"
    fallback_reason: str | None = None

    def propose(self, context: Context, k: int, *, rng: np.random.Generator) -> I64:
        """(k, n) schemes."""
        found: I64 = propose_many(context.operators, k, rng=rng)[0]
        return found


class LLMGenerator:
    """Asks a model, takes what is valid in its answer, fills up by the offline generator; by that alone where it fails.

    The whole of a proposal takes `deadline_s` at most, by `clock`. The model sees numbers and plain names only.
    """

    name = "llm"

    def __init__(
        self,
        client: ChatModel,
        *,
        clock: Clock,
        temperature: float = 0.7,
        max_tokens: int = 2048,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._client, self._clock = client, clock
        self._temperature, self._max_tokens, self._deadline_s = temperature, max_tokens, deadline_s
        self.fallback_reason: str | None = None
        self.clipped = 0  # rows of the last answer with counts outside 1..P

    def propose(self, context: Context, k: int, *, rng: np.random.Generator) -> I64:
        """(k, n) schemes: the two that are always there, the model's, then offline ones."""
        operators = context.operators
        offline = propose_many(operators, k, rng=rng)[0]
        found = self._asked(context, k)
        must = np.stack([operators.wanted[0], operators.current[0]])
        rows: I64 = _taken(np.concatenate([must, found, offline])[None], k, operators=operators, rng=rng)[0]
        return rows

    def _asked(self, context: Context, k: int) -> I64:
        """Valid distinct rows of the model's answer (m, n); none, and a reason, where it failed."""
        operators = context.operators
        until_s = self._clock.monotonic_s() + self._deadline_s
        messages = prompt.messages(operators, k=k, recent=context.recent)
        enough = min(math.ceil(k / 2), _schemes(operators, limit=k))
        self.fallback_reason, self.clipped = "invalid", 0
        for _ in range(2):
            left_s = until_s - self._clock.monotonic_s()
            if left_s <= 0:
                self.fallback_reason = "timeout"
                break
            try:
                text = self._client.complete(
                    messages, temperature=self._temperature, max_tokens=self._max_tokens, deadline_s=left_s
                )
            except Unavailable as error:
                self.fallback_reason = str(error.given or "unavailable")
                break
            rows, self.clipped = prompt.schemes(text, operators=operators)
            if len(rows) >= enough:
                self.fallback_reason = None
                return rows
            messages = [*messages, *prompt.again(text, found=len(rows), wanted=enough)]
        return np.zeros((0, operators.count), dtype=np.int64)


def checked(schemes: Array, *, operators: Operators, k: int, generator: str) -> I64:
    """(k, n) schemes that keep the contract, from whoever proposed. Raises InvalidInput naming the generator."""
    found = np.asarray(schemes)
    fault = None
    if found.shape != (k, operators.count) or not np.issubdtype(found.dtype, np.integer):
        fault = f"{found.dtype} of shape {found.shape}; expected integers of shape {(k, operators.count)}"
    elif found.min() < 1 or found.max() > operators.max_parallelism:
        fault = f"counts from {found.min()} to {found.max()}; expected 1 to {operators.max_parallelism}"
    elif (found[:, operators.fixed] != operators.current[0, operators.fixed]).any():
        fault = "another count for a fixed operator"
    elif len(np.unique(found, axis=0)) < min(k, _schemes(operators, limit=k)):
        fault = "the same scheme twice"
    elif any(not (found == one).all(axis=1).any() for one in (operators.current[0], operators.wanted[0])):
        fault = "no row for the scheme in force, or none for DS2's"
    if fault is not None:
        raise InvalidInput(f"schemes of generator {generator}", given=fault, cure="Keep the contract of a generator.")
    return found.astype(np.int64)


def propose_many(operators: Operators, k: int, *, rng: np.random.Generator) -> I64:
    """The offline generator on a batch: (B, k, n). Raises InvalidInput for k below 2: two must be there."""
    if k < 2:
        raise InvalidInput("num_candidate_schemes", given=k, expected="2 or more: DS2's scheme and the one in force")
    wanted, current = operators.wanted, operators.current
    rows = [wanted, current, *(np.ceil(scale * wanted - 1e-9) for scale in SCALES)]
    rows += _neighbours(operators)
    rows += [_split(operators, slots=times * max(1, int((~operators.fixed).sum()))) for times in (1, 2, 4)]
    drawn = np.round(wanted[:, None, :] * rng.lognormal(0.0, SPREAD, size=(len(wanted), _DRAWS, operators.count)))
    return _taken(np.concatenate([np.stack(rows, axis=1), drawn], axis=1), k, operators=operators, rng=rng)


def _neighbours(operators: Operators) -> list[I64]:
    """One instance more and one less on the busiest and on the idlest operator that may be scaled."""
    load, free = operators.load, ~operators.fixed
    found = []
    for pick in (np.where(free, load, -np.inf).argmax(axis=1), np.where(free, load, np.inf).argmin(axis=1)):
        for change in (1, -1):
            row = operators.current.copy()
            row[np.arange(len(row)), pick] += change
            found.append(row)
    return found


def _split(operators: Operators, *, slots: int) -> F64:
    """`slots` instances over the operators that may be scaled, in proportion to what each needs; evenly where nobody knows."""
    need = np.where(operators.fixed, 0.0, np.nan_to_num(operators.demand))
    total = need.sum(axis=1, keepdims=True)
    even = (~operators.fixed).astype(np.float64)
    share = np.divide(need, total, out=np.tile(even / max(1.0, even.sum()), (len(need), 1)), where=total > 0)
    found: F64 = np.round(share * slots)
    return found


def _taken(rows: Array, k: int, *, operators: Operators, rng: np.random.Generator) -> I64:
    """The first k distinct of rows (B, m, n), clipped to what is allowed; then uniform draws, then all there are."""
    found = _allowed(rows, operators)
    possible = _schemes(operators, limit=k)
    for _ in range(_ROUNDS):
        first = _first(found)
        if (first.sum(axis=1) >= possible).all():
            break
        more = rng.integers(1, operators.max_parallelism + 1, size=(len(found), 2 * k, operators.count))
        found = np.concatenate([found, _allowed(more, operators)], axis=1)
    else:
        found = np.concatenate([found, _every(operators, limit=4 * k)], axis=1)
        first = _first(found)
    order = np.argsort(~first, axis=1, kind="stable")[:, :k]
    if order.shape[1] < k:
        order = np.concatenate([order, np.repeat(order[:, :1], k - order.shape[1], axis=1)], axis=1)
    picked: I64 = np.take_along_axis(found, order[:, :, None], axis=1)
    return picked


def _allowed(rows: Array, operators: Operators) -> I64:
    clipped = np.clip(rows, 1, operators.max_parallelism).astype(np.int64)
    return np.where(operators.fixed, operators.current[:, None, :], clipped)


def _first(rows: I64) -> Bool:
    """(B, m): whether no row before it is the same."""
    same = (rows[:, :, None, :] == rows[:, None, :, :]).all(axis=3)
    earlier = np.tril(np.ones(same.shape[1:], dtype=np.bool_), k=-1)
    found: Bool = ~(same & earlier).any(axis=2)
    return found


def _every(operators: Operators, *, limit: int) -> I64:
    """Schemes in lexicographic order, `limit` of them at most: for spaces so small that draws miss one."""
    free = np.flatnonzero(~operators.fixed)
    listed = itertools.islice(itertools.product(range(1, operators.max_parallelism + 1), repeat=len(free)), limit)
    found = np.repeat(operators.current[:, None, :], 1, axis=1)
    combos = np.array(list(listed), dtype=np.int64).reshape(-1, len(free))
    found = np.repeat(found, len(combos), axis=1)
    found[:, :, free] = combos
    return found


def _schemes(operators: Operators, *, limit: int) -> int:
    """How many distinct schemes there are, counted up to `limit`."""
    free = int((~operators.fixed).sum())
    return min(limit, operators.max_parallelism**free) if free * math.log(operators.max_parallelism + 1) < 40 else limit
