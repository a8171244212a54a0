"""The names, labels and buckets of what a data plane counts, in a Prometheus registry of its own.

Handed to `serve` by whoever starts a process; the native listener and Serve's replica expose it at `/metrics`. Counts only.
"""

from __future__ import annotations

import prometheus_client as prometheus

# Milliseconds, as seconds: what a decision may cost, from a forward pass to a client that gave up.
BUCKETS_S = (0.00025, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


class ServingMetrics:
    """One per process. Labels are bounded: endpoints, arms, kinds; never a unit or an id."""

    def __init__(self) -> None:
        self.registry = prometheus.CollectorRegistry()
        self.requests = self._counter("rlaas_requests_total", "Requests answered, by status class.", "status")
        self.decisions = self._counter("rlaas_decisions_total", "Decisions answered.", "endpoint", "arm")
        self.fallbacks = self._counter(
            "rlaas_fallbacks_total", "Decisions answered by a fallback.", "endpoint", "arm", "reason"
        )
        self.rewards = self._counter("rlaas_rewards_total", "Rewards by what became of them.", "endpoint", "outcome")
        self.log_dropped = self._counter(
            "rlaas_log_dropped_total", "Rows answered without being logged.", "endpoint", "kind"
        )
        self.log_bytes = self._counter("rlaas_log_bytes_total", "Bytes written to the decision log.")
        self.log_sync_failed = self._counter("rlaas_log_sync_failed_total", "fsync calls that failed.")
        self.shadow = self._counter(
            "rlaas_shadow_total", "Shadow decisions by agreement, or dropped.", "endpoint", "outcome"
        )
        self.ejections = self._counter("rlaas_arm_ejections_total", "Arms ejected by the breaker.", "endpoint", "arm")
        self.route_errors = self._counter("rlaas_route_errors_total", "Route tables that could not be taken.", "reason")
        self.latency = prometheus.Histogram(
            "rlaas_decision_seconds",
            "From the last byte of a request to its answer.",
            ["endpoint"],
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        self.epoch = prometheus.Gauge("rlaas_epoch", "Epoch of the route tables in use.", registry=self.registry)
        self.inflight = prometheus.Gauge("rlaas_inflight", "Requests taken and not answered.", registry=self.registry)

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        return prometheus.generate_latest(self.registry)

    def _counter(self, name: str, help_text: str, *labels: str) -> prometheus.Counter:
        return prometheus.Counter(name, help_text, labels, registry=self.registry)
