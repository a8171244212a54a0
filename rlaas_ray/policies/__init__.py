"""Policies as files: spaces and their encoder, the Bundle, its engines, built-in heuristics.

Start at bundle.py. Invariant: no pickle; what does not match its manifest is refused by name. Never imports an env: builtins
are found by the entry-point group `rlaas.baselines`. Tests: unit/policies, contracts.
"""
