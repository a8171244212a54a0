"""What `/metrics` shows of this process: requests by route, and what the database and the loop look like now.

Counted by `gates.Access`; the rest is `Application.counts`, read when somebody scrapes. No policy of its own.
"""

from __future__ import annotations

import prometheus_client as prom
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from rlaas_ray.control.application import Application

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0)


class Numbers:
    """One registry per app, so that two apps in one process do not share counts."""

    def __init__(self, application: Application) -> None:
        self.registry = prom.CollectorRegistry()
        self._requests = prom.Counter(
            "rlaas_api_requests", "Requests", ["method", "route", "status"], registry=self.registry
        )
        self._seconds = prom.Histogram(
            "rlaas_api_request_seconds", "Time to answer", ["route"], buckets=_BUCKETS, registry=self.registry
        )
        self.registry.register(_State(application))

    def request(self, *, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        self._requests.labels(method, route, status).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """The exposition format."""
        return prom.generate_latest(self.registry)


class _State(Collector):
    def __init__(self, application: Application) -> None:
        self._application = application

    def describe(self) -> list[GaugeMetricFamily]:
        return []

    def collect(self) -> list[GaugeMetricFamily]:
        found = []
        for name, words, values in self._application.counts():
            family = GaugeMetricFamily(name, words, labels=["kind"])
            for label, value in sorted(values.items()):
                family.add_metric([label], value)
            found.append(family)
        return found
