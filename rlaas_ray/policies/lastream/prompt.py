"""What a language model is told of a dataflow, and how its answer is read: numbers in, rows of whole numbers out.

Called by generators.py. The template has a version, which changes with its words. Nothing is evaluated, no number is guessed
out of prose, and no text of the caller reaches the model but names of plain letters.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rlaas_ray.policies.lastream.operators import Operators
from rlaas_ray.specs.arrays import I64

VERSION = 1
MOST_BYTES = 256 * 1024
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_NESTED = re.compile(r"\[\s*\[")
_LOOKS = 16  # places of a text where rows may begin
_SYSTEM = (
    "You set the parallelism of the operators of a streaming dataflow. Answer with one JSON object and nothing else: "
    '{"schemes": [[integer for each operator, in the given order], ...]}.'
)

Message = Mapping[str, str]


def messages(operators: Operators, *, k: int, recent: Sequence[tuple[tuple[int, ...], float]]) -> list[Message]:
    """The request for k schemes."""
    told = {
        "template": VERSION,
        "operators": [_told(operators, one) for one in range(operators.count)],
        "edges": [list(edge) for edge in operators.edges],
        "max_parallelism": operators.max_parallelism,
        "current_scheme": operators.current[0].tolist(),
        "rate_based_scheme": operators.wanted[0].tolist(),
        "recent": [{"scheme": list(scheme), "reward": round(float(reward), 4)} for scheme, reward in recent],
        "schemes_wanted": k,
    }
    return [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": json.dumps(told)}]


def again(answer: str, *, found: int, wanted: int) -> list[Message]:
    """What is said after an answer with too few valid rows."""
    words = (
        f"That had {found} valid rows, {wanted} are needed. A row has one whole number for each operator. "
        'Answer with {"schemes": [[...], ...]} alone.'
    )
    return [{"role": "assistant", "content": answer[:2000]}, {"role": "user", "content": words}]


def schemes(text: str, *, operators: Operators) -> tuple[I64, int]:
    """Valid distinct rows (m, n) of an answer, and how many were clipped into 1..P.

    A row counts if it has n finite whole numbers (2.0 is one; 2.5 and true are not). Fixed operators keep their count.
    """
    found: list[tuple[int, ...]] = []
    clipped = 0
    for row in _rows(text):
        numbers = _whole(row, count=operators.count)
        if numbers is None:
            continue
        inside = [min(max(number, 1), operators.max_parallelism) for number in numbers]
        clipped += inside != numbers
        kept = np.where(operators.fixed, operators.current[0], np.array(inside, dtype=np.int64))
        one = tuple(int(number) for number in kept)
        if one not in found:
            found.append(one)
    return np.array(found, dtype=np.int64).reshape(-1, operators.count), clipped


def _told(operators: Operators, one: int) -> dict[str, Any]:
    name = operators.names[one]
    demand = float(operators.demand[0, one])
    return {
        "name": name if _NAME.match(name) else f"op_{one}",
        "fixed": bool(operators.fixed[one]),
        "instances_needed": round(demand, 3) if math.isfinite(demand) else None,
        "load": round(float(operators.load[0, one]), 3),
    }


def _rows(text: str) -> list[Any]:
    """An object with `schemes`, or an array of arrays, or the first such array inside other text; else none."""
    if len(text.encode("utf-8", "replace")) > MOST_BYTES:
        return []
    decoder = json.JSONDecoder(parse_constant=lambda _: None)  # NaN and Infinity spoil their row alone
    found = _decoded(decoder, text.strip())
    if isinstance(found, dict):
        found = found.get("schemes")
    if _nested(found):
        return list(found)
    for match in list(_NESTED.finditer(text))[:_LOOKS]:
        try:
            inner, _ = decoder.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            continue
        if _nested(inner):
            return list(inner)
    return []


def _decoded(decoder: json.JSONDecoder, text: str) -> Any:
    try:
        return decoder.decode(text)
    except (ValueError, RecursionError):
        return None


def _nested(found: Any) -> bool:
    return isinstance(found, list) and any(isinstance(row, list) for row in found)


def _whole(row: Any, *, count: int) -> list[int] | None:
    if not isinstance(row, list) or len(row) != count:
        return None
    if any(isinstance(number, bool) or not isinstance(number, int | float) for number in row):
        return None
    if any(isinstance(number, float) and not number.is_integer() for number in row):  # infinite ones are not whole
        return None
    return [int(number) for number in row]
