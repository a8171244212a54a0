"""Bodies of requests made into asks: every field checked, every observation encoded, before any policy runs.

Called by `answer.py`. Pure: decides nothing, draws nothing; raises the error that names the field.
"""

from __future__ import annotations

from typing import Any

from rlaas_ray.errors import InvalidInput, TooLarge
from rlaas_ray.policies import spaces
from rlaas_ray.serve import wire
from rlaas_ray.serve.decide import Ask
from rlaas_ray.serve.state import EndpointState
from rlaas_ray.serve.tokens import LONGEST, Remembered, Tokens
from rlaas_ray.specs.arrays import F32, Bool

# An encoded observation (d,) and, where its space has one, its action mask (m,).
Seen = tuple[F32, Bool | None]
DECISION = frozenset(
    {"unit", "observation", "context", "episode_id", "step", "decision_id", "state_token", "deadline_ms"}
)


def decision(item: dict[str, Any], *, endpoint: EndpointState, tokens: Tokens, arrived_s: float, where: str) -> Ask:
    """One item of `POST .../decisions`; an ask whose `decision_id` is empty still needs one from the server."""
    wire.known_only(item, known=DECISION, where=where)
    unit = wire.string(item, "unit", where=where)
    if unit is None:
        raise wire.required("unit", where=where)
    if "observation" not in item:
        raise wire.required("observation", where=where)
    if not isinstance(item.get("context", {}), dict | None):
        raise InvalidInput("field 'context'", given=item["context"], expected="an object", pointer=f"{where}/context")
    decision_id = wire.string(item, "decision_id", where=where, longest=128)
    return Ask(
        unit=unit,
        row=_encode(endpoint, item["observation"], where=f"{where}/observation"),
        episode_id=wire.string(item, "episode_id", where=where),
        step=wire.whole(item, "step", where=where) or 0,
        decision_id=decision_id or "",
        given=decision_id is not None,
        deadline_s=arrived_s + _limit_ms(item, endpoint=endpoint, where=where) / 1000,
        log=True,
        mask=_mask(endpoint, item["observation"]),
        remembered=_remembered(item, endpoint=endpoint, tokens=tokens, unit=unit, where=where),
    )


def observations(given: Any, *, endpoint: EndpointState) -> tuple[list[Seen], bool]:
    """The rows of `state` in `POST /predict`, and whether it is a batch: one nesting more than one observation has."""
    if not _is_batch(given, endpoint=endpoint):
        return [(_encode(endpoint, given, where="/state"), _mask(endpoint, given))], False
    if not 0 < len(given) <= wire.ROWS_LIMIT:
        raise TooLarge("batch", given=f"{len(given)} rows", expected=f"1 to {wire.ROWS_LIMIT}", pointer="/state")
    return [(_encode(endpoint, one, where=f"/state/{i}"), _mask(endpoint, one)) for i, one in enumerate(given)], True


def refuse_forgetting(endpoint: EndpointState, *, path: str) -> None:
    """Raises InvalidInput where a policy would have to act without its memory: this path has no place for a token."""
    if endpoint.remembers:
        raise InvalidInput(
            "a policy with a memory behind a path without `state_token`",
            given=path,
            expected=f"POST /v1/endpoints/{endpoint.table.endpoint}/decisions",
            cure="Ask there, and send each answer's `state_token` with the next request of its unit.",
        )


def _remembered(
    item: dict[str, Any], *, endpoint: EndpointState, tokens: Tokens, unit: str, where: str
) -> Remembered | None:
    token = wire.string(item, "state_token", where=where, longest=LONGEST)
    if token is None:
        return None
    if not endpoint.remembers:
        raise InvalidInput(
            "field 'state_token'",
            given="a token",
            expected="none: no policy of this endpoint keeps state",
            pointer=f"{where}/state_token",
        )
    return tokens.open(token, endpoint=endpoint.table.endpoint, unit=unit, where=where)


def _limit_ms(item: dict[str, Any], *, endpoint: EndpointState, where: str) -> float:
    # A client may ask for less time than the endpoint gives, never for more.
    limit_ms = float(endpoint.table.deadline_ms)
    asked_ms = wire.number(item, "deadline_ms", where=where)
    if asked_ms is None:
        return limit_ms
    if asked_ms <= 0:
        raise InvalidInput(
            "field 'deadline_ms'", given=asked_ms, expected="a number > 0", pointer=f"{where}/deadline_ms"
        )
    return min(limit_ms, asked_ms)


def _encode(endpoint: EndpointState, observation: Any, *, where: str) -> F32:
    try:
        return endpoint.row(spaces.encode_one(endpoint.observation_space, observation))
    except InvalidInput as error:
        error.pointer = where + (error.pointer or "").removeprefix("/observation")
        raise


def _mask(endpoint: EndpointState, observation: Any) -> Bool | None:
    masks = spaces.action_mask(endpoint.observation_space, [observation])
    return None if masks is None else masks[0]


def _is_batch(given: Any, *, endpoint: EndpointState) -> bool:
    if not isinstance(given, list):
        return False
    depth = 0
    inner: Any = given
    while isinstance(inner, list):
        depth += 1
        inner = inner[0] if inner else None
    return depth > len(endpoint.observation_space.shape or ())
