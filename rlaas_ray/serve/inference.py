"""The Open Inference Protocol v2, JSON form: an endpoint is a model, its arms' versions are the model's versions.

Parts of `answer.py`; decisions themselves are made there. Errors are `{"error": "..."}`, as that protocol's clients read them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from rlaas_ray.errors import BadJson, BadObservation, InvalidInput, NotFound, RlaasError, TooLarge
from rlaas_ray.serve import wire
from rlaas_ray.serve.decide import Decided
from rlaas_ray.serve.state import EndpointState, State
from rlaas_ray.serve.wire import Answer, Request
from rlaas_ray.specs.arrays import F32
from rlaas_ray.specs.routing import Arm

# The protocol's element type -> what JSON numbers may be sent as; observations are float32 whatever the sender has.
_FLOATS = frozenset({"FP32", "FP64", "FP16", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "BOOL"})
_TOP = frozenset({"id", "inputs", "outputs", "parameters"})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Call:
    """POST .../infer: which endpoint, and which arm where the path names a version."""

    name: str
    endpoint: EndpointState
    arm: Arm | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parsed:
    """`rows` (n, d) encoded; `unit` from `parameters`."""

    rows: F32
    unit: str | None
    request_id: str | None


def route(request: Request, *, state: State, draining: bool) -> Answer | Call:
    """What the path asks for: an answer, or a Call whose decisions are to be made."""
    match request.path.strip("/").split("/")[1:]:
        case []:
            wire.method(request, "GET")
            return _json({"name": "rlaas", "version": "0.1.0", "extensions": []})
        case ["health", "live"]:
            wire.method(request, "GET")
            return _json({"live": True})
        case ["health", "ready"]:
            wire.method(request, "GET")
            ready = state.ready and not draining
            return _json({"ready": ready}, status=200 if ready else 503)
        case ["models", name, "versions", version, *rest]:
            endpoint = state.endpoint(name)
            return _model(request, endpoint=endpoint, arm=endpoint.version(version), rest=rest)
        case ["models", name, *rest]:
            return _model(request, endpoint=state.endpoint(name), arm=None, rest=rest)
        case _:
            raise _nowhere(request)


def parse(request: Request, call: Call) -> Parsed:
    """The observations of an infer request."""
    if b"inference-header-content-length" in request.headers:
        raise _binary()
    body = wire.document(request)
    wire.known_only(body, known=_TOP)
    parameters = body.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise InvalidInput("field 'parameters'", given=parameters, expected="an object", pointer="/parameters")
    inputs = body.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise InvalidInput(
            "field 'inputs'", given=inputs, expected="a list of one tensor named 'obs'", pointer="/inputs"
        )
    return Parsed(
        rows=_tensor(inputs[0], width=call.endpoint.inputs),
        unit=wire.string(parameters, "unit", where="/parameters"),
        request_id=wire.string(body, "id", where=""),
    )


def body(call: Call, parsed: Parsed, *, decided: list[Decided]) -> bytes:
    """The response: `action` (n, a) FP64 and `propensity` (n)."""
    actions = np.stack([d.action for d in decided])
    outputs = [
        {"name": "action", "datatype": "FP64", "shape": list(actions.shape), "data": actions.ravel().tolist()},
        {"name": "propensity", "datatype": "FP64", "shape": [len(decided)], "data": [d.propensity for d in decided]},
    ]
    first = decided[0].assigned.arm
    told: dict[str, Any] = {"model_name": call.name, "model_version": _number(first), "outputs": outputs}
    if parsed.request_id is not None:
        told["id"] = parsed.request_id
    if parsed.unit is not None:
        told["parameters"] = {
            "decision_id": decided[0].ask.decision_id,
            "arm": first.name,
            "logged": all(d.logged for d in decided),
            "fallback": decided[0].fallback,
        }
    return orjson.dumps(told)


def problem(error: RlaasError) -> Answer:
    """An error in this protocol's form."""
    message = error.detail if error.cure is None else f"{error.detail}. {error.cure}"
    headers: list[wire.Header] = [(b"retry-after", b"1")] if error.status in (429, 503) else []
    return Answer(status=error.status, body=orjson.dumps({"error": message}), headers=headers)


def _model(request: Request, *, endpoint: EndpointState, arm: Arm | None, rest: list[str]) -> Answer | Call:
    name = endpoint.table.endpoint
    match rest:
        case []:
            wire.method(request, "GET")
            return _json(_metadata(endpoint, arm=arm))
        case ["ready"]:
            wire.method(request, "GET")
            return _json({"name": name, "ready": True})
        case ["infer"]:
            wire.method(request, "POST")
            return Call(name=name, endpoint=endpoint, arm=arm)
        case _:
            raise _nowhere(request)


def _nowhere(request: Request) -> NotFound:
    return NotFound("path", given=request.path, expected="/v2/models/{endpoint}[/versions/{n}][/ready|/infer]")


def _metadata(endpoint: EndpointState, *, arm: Arm | None) -> dict[str, Any]:
    arms = [arm] if arm is not None else list(endpoint.table.arms)
    return {
        "name": endpoint.table.endpoint,
        "versions": sorted({_number(a) for a in arms}),
        "platform": "rlaas",
        "inputs": [{"name": "obs", "datatype": "FP32", "shape": [-1, endpoint.inputs]}],
        "outputs": [
            {"name": "action", "datatype": "FP64", "shape": [-1, -1]},
            {"name": "propensity", "datatype": "FP64", "shape": [-1]},
        ],
    }


def _tensor(tensor: dict[str, Any], *, width: int) -> F32:
    wanted = f"FP32 of shape [n, {width}]"
    if "binary_data_size" in (tensor.get("parameters") or {}):
        raise _binary()
    if tensor.get("name") != "obs" or tensor.get("datatype") not in _FLOATS:
        given = {"name": tensor.get("name"), "datatype": tensor.get("datatype")}
        raise InvalidInput("input tensor", given=given, expected=f"'obs', {wanted}", pointer="/inputs/0")
    count = _count(tensor.get("shape"), width=width, wanted=wanted)
    where = "/inputs/0/data"
    try:
        rows = np.asarray(tensor.get("data"), dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise BadObservation("input 'obs'", given=tensor.get("data"), expected=wanted, pointer=where) from None
    if rows.size != count * width:
        given_size, expected = f"{rows.size} numbers", f"{count * width}"
        raise BadObservation("input 'obs'", given=given_size, expected=expected, pointer=where)
    if not np.abs(rows).max() <= float(np.finfo(np.float32).max):
        raise BadObservation("input 'obs'", given="NaN, infinity or too large", expected=wanted, pointer=where)
    return rows.reshape(count, width).astype(np.float32)


def _count(shape: Any, *, width: int, wanted: str) -> int:
    where = "/inputs/0/shape"
    sizes = shape if isinstance(shape, list) and all(type(s) is int and 0 < s < 1 << 31 for s in shape) else []
    if not sizes or math.prod(sizes[1:]) != width:
        raise BadObservation("input 'obs'", given=f"shape {shape}", expected=wanted, pointer=where)
    if sizes[0] > wire.ROWS_LIMIT:
        raise TooLarge("input 'obs'", given=f"{sizes[0]} rows", expected=f"at most {wire.ROWS_LIMIT}", pointer=where)
    return int(sizes[0])


def _binary() -> BadJson:
    return BadJson(
        "the binary tensor data extension is not built",
        expected="tensors as JSON numbers in `data`",
        cure="With tritonclient: `set_data_from_numpy(..., binary_data=False)`.",
    )


def _number(arm: Arm) -> str:
    return arm.version.rpartition(":")[2] or arm.version


def _json(value: Any, *, status: int = 200) -> Answer:
    return Answer(status=status, body=orjson.dumps(value))
