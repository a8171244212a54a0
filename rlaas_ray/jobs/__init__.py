"""Where a run executes: a process here, a job on a Ray cluster, a RayJob on Kubernetes; searches as jobs, many to a process.

Start at here.py and searching.py. Invariant: submitting the same attempt twice starts it once. Tests: contracts/test_places.py.
"""
