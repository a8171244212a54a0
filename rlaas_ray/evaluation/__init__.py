"""What a policy is worth: episodes with intervals, and sequential tests that stay valid while people peek.

Start at sequential.py (folds log rows into e-values) and episodes.py. Invariant: same rows, same numbers, byte for byte.
Never reads a disk or a clock. Tests: unit/evaluation; benchmarks/canary.py has the operating characteristics.
"""
