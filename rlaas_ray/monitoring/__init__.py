"""Metrics of a data plane: names, buckets and the Prometheus registry that it exposes. Pure counters; no policy of its own.

Start at metrics.py. What the control API exposes is in `api/numbers.py` and `control/application.py`.
"""
