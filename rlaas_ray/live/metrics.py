"""What users experience, measured: demand, latency and violations of a live cluster, from Prometheus or from JSON over HTTP.

Called by edge.py once a step. A figure that is missing, not finite or negative raises InvalidStep; it is never taken for 0.
"""

from __future__ import annotations

import dataclasses
import math
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import httpx
import numpy as np

from rlaas_ray.errors import InvalidInput, Unavailable, UnknownField, nearest
from rlaas_ray.specs.arrays import F64

TIMEOUT_S = 10.0


class InvalidStep(Unavailable):
    """A step whose outcome nobody knows: it has no reward and no observation. The environment can be stepped on."""


@dataclass(frozen=True)
class Reading:
    """Figures of the last period for S services and Z zones."""

    demand: F64  # (S, Z) requests a second
    latency_ms: F64  # (S,) mean over offered requests
    violation: F64  # (S,) share of offered requests over the service's limit, 0..1


class MetricsSource(Protocol):
    """Where a live environment learns what its users experience."""

    def read(self) -> Reading:
        """The figures as they are now. Raises InvalidStep when one is missing."""
        ...


@dataclass(frozen=True)
class Queries:
    """PromQL, one query a figure; `$namespace` and `$window` are filled in. Each gives one series per label value.

    Labels: `service` and `zone` for the demand, `service` for the others.
    """

    demand: str = 'sum by (service, zone) (rate(http_requests_total{namespace="$namespace"}[$window]))'
    latency_ms: str = (
        '1000 * sum by (service) (rate(http_request_duration_seconds_sum{namespace="$namespace"}[$window]))'
        ' / sum by (service) (rate(http_request_duration_seconds_count{namespace="$namespace"}[$window]))'
    )
    violation: str = (
        'sum by (service) (rate(http_requests_over_limit_total{namespace="$namespace"}[$window]))'
        ' / sum by (service) (rate(http_requests_total{namespace="$namespace"}[$window]))'
    )


class Prometheus(MetricsSource):
    """Instant queries at `url`/api/v1/query."""

    def __init__(
        self,
        url: str,
        *,
        services: Sequence[str],
        zones: Sequence[str],
        namespace: str,
        window: str = "1m",
        queries: Queries | None = None,
        http: httpx.Client | None = None,
    ) -> None:
        self._url = url.rstrip("/") + "/api/v1/query"
        self._services, self._zones = tuple(services), tuple(zones)
        fill = {"namespace": namespace, "window": window}
        given = queries or Queries()
        self._queries = {
            name: string.Template(getattr(given, name)).safe_substitute(fill)
            for name in ("demand", "latency_ms", "violation")
        }
        self._http = http or httpx.Client(timeout=TIMEOUT_S)

    def read(self) -> Reading:
        """Three queries."""
        demand = self._vector("demand", labels=("service", "zone"))
        rows = {name: self._vector(name, labels=("service",)) for name in ("latency_ms", "violation")}
        return _reading(
            self._services,
            zones=self._zones,
            demand=lambda s, z: demand.get((s, z)),
            latency_ms=lambda s: rows["latency_ms"].get((s,)),
            violation=lambda s: rows["violation"].get((s,)),
        )

    def _vector(self, name: str, *, labels: Sequence[str]) -> dict[tuple[str, ...], Any]:
        document = _got(self._http, url=self._url, params={"query": self._queries[name]})
        try:
            samples = document["data"]["result"]
            found = {tuple(s["metric"].get(label, "") for label in labels): s["value"][1] for s in samples}
        except (KeyError, TypeError, IndexError) as error:
            raise InvalidStep(
                f"answer to the query of {name}",
                given=document,
                expected="an instant vector",
                cure="Try the query in Prometheus; it must not be a range query.",
            ) from error
        if len(found) != len(samples):
            raise InvalidInput(
                f"query of {name}",
                given=f"{len(samples)} series",
                expected=f"one for each {' and '.join(labels)}",
                cure=f"Add `sum by ({', '.join(labels)})`.",
            )
        return found


@dataclass(frozen=True)
class Pointers:
    """Where each figure lies in a JSON document; `$service` and `$zone` are filled in, `/` separates the keys."""

    demand: str = "$service/zones/$zone/throughput"
    latency_ms: str = "$service/avg_latency"
    violation: str = "$service/violation"


class Json(MetricsSource):
    """One GET of one JSON document, such as a test application serves."""

    def __init__(
        self,
        url: str,
        *,
        services: Sequence[str],
        zones: Sequence[str],
        pointers: Pointers | None = None,
        http: httpx.Client | None = None,
    ) -> None:
        self._url, self._pointers = url, pointers or Pointers()
        self._services, self._zones = tuple(services), tuple(zones)
        self._http = http or httpx.Client(timeout=TIMEOUT_S)

    def read(self) -> Reading:
        """One request."""
        document = _got(self._http, url=self._url, params=None)
        where = self._pointers
        return _reading(
            self._services,
            zones=self._zones,
            demand=lambda s, z: _at(document, where.demand, service=s, zone=z),
            latency_ms=lambda s: _at(document, where.latency_ms, service=s),
            violation=lambda s: _at(document, where.violation, service=s),
        )


def source_of(
    given: Mapping[str, Any], *, services: Sequence[str], zones: Sequence[str], namespace: str
) -> MetricsSource:
    """The source that a configuration describes: `prometheus` or `json` (its URL), then the options of that class."""
    options = dict(given)
    kinds: dict[str, tuple[Any, Any, str]] = {
        "prometheus": (Prometheus, Queries, "queries"),
        "json": (Json, Pointers, "pointers"),
    }
    kind = next((name for name in kinds if name in options), None)
    if kind is None:
        raise InvalidInput(
            "metrics of a live environment",
            given=sorted(options),
            expected="prometheus or json with a URL",
            cure='For example metrics={"prometheus": "http://prometheus.monitoring:9090"}.',
        )
    made, texts, name = kinds[kind]
    allowed = {name, "window"} if kind == "prometheus" else {name}
    url = options.pop(kind)
    unknown = sorted(set(options) - allowed)
    fields = [field.name for field in dataclasses.fields(texts)]
    unknown += sorted(set(options.get(name, {})) - set(fields))
    if unknown:
        known = [*allowed, *fields]
        raise UnknownField(f"metrics: {unknown[0]}", given=unknown[0], cure=nearest(unknown[0], known))
    if name in options:
        options[name] = texts(**options[name])
    if kind == "prometheus":
        options["namespace"] = namespace
    source: MetricsSource = made(url, services=services, zones=zones, **options)
    return source


def _reading(services: Sequence[str], *, zones: Sequence[str], demand: Any, latency_ms: Any, violation: Any) -> Reading:
    return Reading(
        demand=np.asarray([[_number(f"demand of {s} in {z}", demand(s, z)) for z in zones] for s in services]),
        latency_ms=np.asarray([_number(f"latency of {s}", latency_ms(s)) for s in services]),
        violation=np.asarray([_number(f"violation of {s}", violation(s), most=1.0) for s in services]),
    )


def _number(name: str, value: Any, *, most: float = math.inf) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and 0.0 <= number <= most):
        raise InvalidStep(
            f"metric {name}",
            given="nothing" if value is None else value,
            expected="a number of 0 or more" if most == math.inf else f"a number in 0..{most:g}",
            cure="Look at the source: a missing figure is never taken for 0, the step has no reward.",
        )
    return number


def _at(document: Any, pointer: str, **names: str) -> Any:
    at = document
    for key in string.Template(pointer).safe_substitute(names).strip("/").split("/"):
        if not isinstance(at, Mapping) or key not in at:
            return None
        at = at[key]
    return at


def _got(http: httpx.Client, *, url: str, params: Mapping[str, str] | None) -> Any:
    try:
        answer = http.get(url, params=params)
        answer.raise_for_status()
        return answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise InvalidStep(
            f"metrics at {url}",
            given=f"{type(error).__name__}: {error}",
            expected="200 and JSON",
            cure="See that the URL answers from this machine; the environment can be stepped on.",
        ) from error
