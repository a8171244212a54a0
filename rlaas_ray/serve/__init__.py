"""Serving: who gets which arm, what the arm answers, and that it is written down first.

Start at replica.py (the Serve deployment) or assignment.py (pure). Invariant: a decision is logged with its propensity before
it is answered, or the answer says it was not. Never trains, never reads settings. Tests: unit/serve, contracts, ray.
"""
