"""Facts that last: the metadata database, the registry of versions, bundles by digest, audit, keys, the MLflow mirror.

Start at database.py. Invariant: a transition is one transaction. The only package that meets SQL and MLflow. Tests: unit/store.
"""
