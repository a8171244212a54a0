"""Bodies: read as JSON without NaN, parsed into a document, refused by name of the field; and what OpenAPI says of them.

Used by every router that takes a body. The forms that only HTTP has (claims, heartbeats, keys) are here too.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal

import orjson
import pydantic
from fastapi import Depends, Request
from pydantic import Field

from rlaas_ray.errors import BadJson, InvalidInput, MediaType
from rlaas_ray.specs import document
from rlaas_ray.specs.algorithms import ALGORITHMS
from rlaas_ray.specs.choose import ChooseSpec
from rlaas_ray.specs.document import Document
from rlaas_ray.specs.endpoint import EndpointSpec
from rlaas_ray.specs.evaluate import EvaluateSpec
from rlaas_ray.specs.optimize import OptimizeSpec
from rlaas_ray.specs.rollout import RolloutSpec
from rlaas_ray.specs.train import TrainSpec
from rlaas_ray.specs.tune import TuneSpec
from rlaas_ray.store.idempotency import Once

# Names of data sets and envs that people use for the same thing.
DATASETS = {"5g_network_data": "rlaas/RanControl-v1"}
_LOGGED = ("log:", "minari:", "file://", "/", "./", "../")
_KEY_LENGTH = 255


async def _json(request: Request) -> Any:
    raw = await request.body()
    if not raw:
        return {}
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise MediaType("the body's Content-Type", given=kind, expected="application/json")
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BadJson(
            "the body is not JSON", given=str(error), expected="one JSON object, without NaN or infinity"
        ) from None
    if not isinstance(body, dict):
        raise InvalidInput("the body", given=body, expected="a JSON object", pointer="/")
    return body


async def _once(request: Request) -> Once | None:
    given = request.headers.get("idempotency-key")
    if given is None:
        return None
    if not 0 < len(given) <= _KEY_LENGTH or not all("!" <= letter <= "~" for letter in given):
        raise InvalidInput("Idempotency-Key", given=given, expected=f"1 to {_KEY_LENGTH} visible ASCII characters")
    body = await _json(request)
    text = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
    return Once(
        key_id=request.state.actor.id,
        method=request.method,
        path=request.url.path,
        idem_key=given,
        digest=hashlib.sha256(text).hexdigest(),
    )


Body = Annotated[dict[str, Any], Depends(_json)]
OnceKey = Annotated[Once | None, Depends(_once)]


class Claim(Document):
    """A run process takes its attempt."""

    attempt: int = Field(ge=1)
    place_ref: str | None = None


class Heartbeat(Document):
    """A run process lives."""

    attempt: int = Field(ge=1)
    progress: dict[str, Any] | None = None


class Event(Document):
    """One event, as the process counted it."""

    seq: int = Field(ge=1)
    kind: str = Field(min_length=1, max_length=64)
    time_us: int = Field(ge=0)
    data: dict[str, Any] = Field(default_factory=dict)


class Events(Document):
    """Events of an attempt."""

    attempt: int = Field(ge=1)
    events: tuple[Event, ...] = Field(max_length=1000)


class Metrics(Document):
    """Metric rows of an attempt: each has `step`, `time_us` and values."""

    attempt: int = Field(ge=1)
    rows: tuple[dict[str, float | int | None], ...] = Field(max_length=1000)


class Report(Document):
    """What one attempt tells, under its own key."""

    run: str = Field(min_length=1, max_length=64)
    key: str = Field(min_length=1, max_length=200)
    attempt: int = Field(ge=1)
    progress: dict[str, Any] | None = None
    events: tuple[Event, ...] = Field(default=(), max_length=1000)
    rows: tuple[dict[str, float | int | None], ...] = Field(default=(), max_length=1000)


class Reports(Document):
    """What all attempts of one process tell."""

    reports: tuple[Report, ...] = Field(max_length=500)


class Finish(Document):
    """The final state of an attempt."""

    attempt: int = Field(ge=1)
    state: Literal["succeeded", "failed", "stopped"]
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    checkpoint_uri: str | None = None


class Register(Document):
    """A bundle that a run wrote."""

    attempt: int = Field(ge=1)
    path: str = Field(min_length=1)
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")
    evaluation: dict[str, Any] | None = None


class Adopt(Document):
    """A run that was started by hand, e.g. by `ray job submit`."""

    kind: Literal["train", "tune", "optimize", "evaluate"]
    spec: dict[str, Any]
    place: Literal["here", "ray", "kuberay"]
    place_ref: str = Field(min_length=1, max_length=200)


class Import(Document):
    """A bundle on the server's disk."""

    path: str = Field(min_length=1)
    name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")


class Deploy(Document):
    """Serve a version at an endpoint."""

    endpoint: str = Field(min_length=1)


class MakeKey(Document):
    """A key for a person or a program."""

    roles: tuple[str, ...] = Field(min_length=1)
    note: str = Field(default="", max_length=200)
    expires_s: float | None = Field(default=None, gt=0)


class Reason(Document):
    """Why a person promotes or aborts."""

    reason: str | None = Field(default=None, max_length=2000)


class Nothing(Document):
    """No fields."""


_TRAIN: dict[str, Any] = {
    "env": "CartPole-v1",
    "algorithm": "ppo",
    "total_timesteps": 50_000,
    "seed": 7,
    "name": "cart",
}
_TUNE: dict[str, Any] = {
    "train": {"env": "CartPole-v1", "total_timesteps": 50_000},
    "space": {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}, "epochs": {"low": 2, "high": 12}},
    "search": "tpe",
    "scheduler": "asha",
    "trials": 20,
    "seed": 7,
}
_EVENT: dict[str, Any] = {"seq": 1, "kind": "checkpoint", "time_us": 1_700_000_000_000_000, "data": {"steps": 4096}}
EXAMPLES: dict[type[Document], dict[str, Any]] = {
    TrainSpec: _TRAIN,
    TuneSpec: _TUNE,
    OptimizeSpec: {"problem": "5g", "algorithm": "nsga3", "mode": "emergency", "population_size": 100, "seed": 7},
    ChooseSpec: {"method": "achievement", "targets": {"energy_w": 900.0}, "sensitivity": True},
    EvaluateSpec: {"policy": "baseline:CartPole-v1/random", "env": "CartPole-v1", "episodes": 64, "seed": 0},
    EndpointSpec: {"name": "cells", "champion": "baseline:rlaas/RanControl-v1/hold", "assign_by": "unit"},
    RolloutSpec: {"endpoint": "cells", "challenger": "ran-ppo:3", "stages": [5, 25, 50], "margin": 0.02},
    Claim: {"attempt": 1},
    Heartbeat: {"attempt": 1, "progress": {"fraction": 0.5, "steps": 25_000}},
    Events: {"attempt": 1, "events": [_EVENT]},
    Metrics: {"attempt": 1, "rows": [{"step": 4096, "time_us": 1_700_000_000_000_000, "episode_return_mean": 21.5}]},
    Reports: {
        "reports": [{"run": "optimize-k3v9q2m7xa", "key": "rlk_...", "attempt": 1, "progress": {"fraction": 0.5}}]
    },
    Finish: {"attempt": 1, "state": "succeeded", "result": {"steps": 50_000}},
    Register: {"attempt": 1, "path": "/data/runs/train-k3v9q2m7xa/bundle", "name": "cart"},
    Adopt: {"kind": "train", "spec": _TRAIN, "place": "ray", "place_ref": "raysubmit_1"},
    Import: {"path": "/data/cart.tar.zst", "name": "cart"},
    Deploy: {"endpoint": "cart"},
    MakeKey: {"roles": ["decider"], "note": "the web shop", "expires_s": 86_400},
    Reason: {"reason": "the night shift agreed"},
    Nothing: {},
}


def described(kind: type[Document], *, required: bool = True) -> dict[str, Any]:
    """`openapi_extra` of an operation that takes a body of this kind."""
    schema = {"$ref": f"#/components/schemas/{kind.__name__}"}
    content = {"application/json": {"schema": schema, "example": EXAMPLES[kind]}}
    return {"requestBody": {"required": required, "content": content}}


def schemas() -> dict[str, Any]:
    """The components that `described` refers to."""
    found: dict[str, Any] = {}
    for kind in EXAMPLES:
        schema = kind.model_json_schema(ref_template="#/components/schemas/{model}")
        found |= schema.pop("$defs", {})
        found[kind.__name__] = schema
    return found


def training(body: dict[str, Any]) -> TrainSpec:
    """A TrainSpec from its own form or from the SDK's: model_type, dataset, parameters or hyperparameters."""
    return document.parse(TrainSpec, _training_fields(body))


def _training_fields(body: dict[str, Any]) -> dict[str, Any]:
    flat = _merged(body, inner=("parameters", "hyperparameters"))
    kind = flat.pop("training_type", "reinforcement_learning")
    if kind != "reinforcement_learning":
        raise InvalidInput("training_type", given=kind, expected="reinforcement_learning", pointer="/training_type")
    _renamed(flat, "model_type", to="algorithm")
    dataset = flat.get("dataset")
    if isinstance(dataset, str):
        flat["dataset"] = DATASETS.get(dataset, dataset)
    if not _logged(flat):
        _renamed(flat, "dataset", to="env")
    return flat


def _logged(flat: dict[str, Any]) -> bool:
    """Whether `dataset` is logged data; else it is another name for the env."""
    known = ALGORITHMS.get(str(flat.get("algorithm")))
    if known is not None and known.offline and "env" in flat:
        return True
    dataset = str(flat.get("dataset", ""))
    return dataset.startswith(_LOGGED) or ".parquet" in dataset


def optimization(body: dict[str, Any]) -> OptimizeSpec:
    """An OptimizeSpec from its own form or from the SDK's `problem_type`."""
    flat = _merged(body, inner=("parameters",))
    _renamed(flat, "problem_type", to="problem")
    return document.parse(OptimizeSpec, flat)


def tuning(body: dict[str, Any]) -> TuneSpec:
    """A TuneSpec; its `train` in the own form of a TrainSpec or in the SDK's."""
    inner = body.get("train")
    if not isinstance(inner, dict):
        return document.parse(TuneSpec, body)
    return document.parse(TuneSpec, {**body, "train": _training_fields(inner)})


def spec(kind: str, body: dict[str, Any]) -> TrainSpec | TuneSpec | OptimizeSpec | EvaluateSpec:
    """The spec of a run of this kind."""
    if kind == "train":
        return training(body)
    if kind == "tune":
        return tuning(body)
    return optimization(body) if kind == "optimize" else document.parse(EvaluateSpec, body)


def parse(kind: type[document.DocumentT], body: dict[str, Any]) -> document.DocumentT:
    """A document of this kind; where `kind` is a field of its own, it does not name the document."""
    if "kind" not in kind.model_fields:
        return document.parse(kind, body)
    try:
        return kind.model_validate(body)
    except pydantic.ValidationError as error:
        raise document.from_validation(error, kind=kind) from None


def named(body: dict[str, Any], *, field: str, value: str) -> dict[str, Any]:
    """The body with the name that its path gives; another name in the body is refused."""
    given = body.get(field, value)
    if given != value:
        raise InvalidInput(f"{field!r} of body and path differ", given=given, expected=value, pointer=f"/{field}")
    return {**body, field: value}


def _merged(body: dict[str, Any], *, inner: tuple[str, ...]) -> dict[str, Any]:
    flat = {name: value for name, value in body.items() if name not in inner}
    for group in inner:
        fields = body.get(group)
        if fields is None:
            continue
        if not isinstance(fields, dict):
            raise InvalidInput(f"{group!r}", given=fields, expected="a mapping of fields", pointer=f"/{group}")
        for name, value in fields.items():
            if name in flat and flat[name] != value:
                raise InvalidInput(
                    f"{name!r} is given twice", given=value, expected=str(flat[name]), pointer=f"/{group}/{name}"
                )
            flat[name] = value
    return flat


def _renamed(flat: dict[str, Any], given: str, *, to: str) -> None:
    if given not in flat:
        return
    value = flat.pop(given)
    if flat.setdefault(to, value) != value:
        raise InvalidInput(f"{given!r} and {to!r} differ", given=value, expected=str(flat[to]), pointer=f"/{given}")
