"""Metrics: names, buckets and the Prometheus registry that a process exposes. Pure counters; no policy of its own.

Start at metrics.py.
"""
