"""Environments: pure vectorised `step_batch`, wrapped for Gymnasium.

Start at registry.py (ids) and vector.py (the wrapper); each domain is a folder. Invariant: B=1 equals B=N bitwise; philox.py
is the only generator. Never meets Ray, a clock or a policy that learns. Tests: unit/envs, contracts.
"""
