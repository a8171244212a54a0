"""Demand and latency of a live cluster: what is read, and that nothing missing is ever taken for 0."""

import httpx
import numpy as np
import pytest

from rlaas_ray.errors import InvalidInput, UnknownField
from rlaas_ray.live import metrics
from rlaas_ray.live.metrics import InvalidStep, Json, Prometheus

SERVICES, ZONES = ("gateway", "detect"), ("north", "south")


def series(value: str, **labels: str) -> dict:
    return {"metric": labels, "value": [1700000000.0, value]}


def vectors() -> dict[str, list[dict]]:
    pairs = [(s, z) for s in SERVICES for z in ZONES]
    return {
        "demand": [series(str(k + 1.5), service=s, zone=z) for k, (s, z) in enumerate(pairs)],
        "latency": [series("20", service="gateway"), series("40.5", service="detect")],
        "violation": [series("0", service="gateway"), series("0.25", service="detect")],
    }


def prometheus(given: dict[str, list[dict]], *, asked: list[str] | None = None) -> Prometheus:
    def answer(request: httpx.Request) -> httpx.Response:
        query = request.url.params["query"]
        if asked is not None:
            asked.append(f"{request.url.path} {query}")
        name = "violation" if "over_limit" in query else "latency" if "duration" in query else "demand"
        data = {"resultType": "vector", "result": given[name]}
        return httpx.Response(200, json={"status": "success", "data": data})

    http = httpx.Client(transport=httpx.MockTransport(answer))
    return Prometheus("http://p:9090/", services=SERVICES, zones=ZONES, namespace="edge", window="2m", http=http)


def test_prometheus_gives_one_series_a_label_value() -> None:
    asked: list[str] = []
    reading = prometheus(vectors(), asked=asked).read()
    np.testing.assert_array_equal(reading.demand, [[1.5, 2.5], [3.5, 4.5]])
    np.testing.assert_array_equal(reading.latency_ms, [20.0, 40.5])
    np.testing.assert_array_equal(reading.violation, [0.0, 0.25])
    assert asked[0] == ('/api/v1/query sum by (service, zone) (rate(http_requests_total{namespace="edge"}[2m]))')


@pytest.mark.parametrize("name", ["demand", "latency", "violation"])
@pytest.mark.parametrize("value", [None, "NaN", "+Inf", "-1", "x"])
def test_a_missing_or_senseless_figure_ends_the_step(name: str, value: str | None) -> None:
    given = vectors()
    if value is None:
        given[name].pop()
    else:
        given[name][-1]["value"][1] = value
    with pytest.raises(InvalidStep, match="detect"):
        prometheus(given).read()


def test_a_share_above_one_is_no_share() -> None:
    given = vectors()
    given["violation"][0]["value"][1] = "1.5"
    with pytest.raises(InvalidStep, match=r"0\.\.1"):
        prometheus(given).read()


def test_two_series_of_one_service_are_a_mistake_of_the_query() -> None:
    given = vectors()
    given["latency"].append(series("9", service="detect", pod="x"))
    with pytest.raises(InvalidInput, match="latency_ms") as told:
        prometheus(given).read()
    assert "sum by (service)" in told.value.cure


def json_source(document: object, *, status: int = 200, **options) -> Json:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, json=document)

    http = httpx.Client(transport=httpx.MockTransport(answer))
    return Json("http://app/metrics", services=SERVICES, zones=ZONES, http=http, **options)


def document() -> dict:
    zones = {"north": {"throughput": 10}, "south": {"throughput": 0}}
    return {s: {"zones": zones, "avg_latency": 33.0, "violation": 0.1} for s in SERVICES}


def test_json_is_read_by_pointers() -> None:
    reading = json_source(document()).read()
    np.testing.assert_array_equal(reading.demand, [[10.0, 0.0]] * 2)
    np.testing.assert_array_equal(reading.latency_ms, [33.0, 33.0])
    pointers = metrics.Pointers(demand="$service/avg_latency")
    np.testing.assert_array_equal(json_source(document(), pointers=pointers).read().demand, [[33.0, 33.0]] * 2)


@pytest.mark.parametrize("value", [None, True, "", [], float("1e999")])
def test_json_without_a_figure_ends_the_step(value: object) -> None:
    given = document()
    given["detect"] = given["detect"] | {"avg_latency": None if value == float("inf") else value}
    with pytest.raises(InvalidStep, match="latency of detect"):
        json_source(given).read()
    del given["detect"]
    with pytest.raises(InvalidStep, match="demand of detect in north"):
        json_source(given).read()


def test_a_source_that_does_not_answer_ends_the_step() -> None:
    with pytest.raises(InvalidStep, match="500"):
        json_source({}, status=500).read()

    def broken(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectTimeout("late", request=request)

    http = httpx.Client(transport=httpx.MockTransport(broken))
    with pytest.raises(InvalidStep, match="ConnectTimeout"):
        Json("http://app", services=SERVICES, zones=ZONES, http=http).read()


def test_sources_are_made_from_documents() -> None:
    kind = {"services": SERVICES, "zones": ZONES, "namespace": "edge"}
    made = metrics.source_of({"prometheus": "http://p", "window": "5m", "queries": {"demand": "up"}}, **kind)
    assert isinstance(made, Prometheus)
    assert isinstance(metrics.source_of({"json": "http://a", "pointers": {"demand": "x"}}, **kind), Json)
    with pytest.raises(InvalidInput, match="prometheus or json"):
        metrics.source_of({}, **kind)
    with pytest.raises(UnknownField) as told:
        metrics.source_of({"prometheus": "http://p", "windw": "5m"}, **kind)
    assert "window" in told.value.cure
    with pytest.raises(UnknownField) as told:
        metrics.source_of({"json": "http://p", "pointers": {"demnd": "5m"}}, **kind)
    assert "demand" in told.value.cure
