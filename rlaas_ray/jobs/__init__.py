"""Where a run executes: a process here, a job on a Ray cluster, a RayJob on Kubernetes. It carries a command, not code.

Start at here.py. Invariant: submitting the same attempt twice starts it once. Tests: contracts/test_places.py.
"""
